"""Draws of splits: shares, seeds, and files that are added later."""

from __future__ import annotations

from collections import Counter

import pytest

from intertitle.pipeline.importers.table.splits import SplitRule, split_in_name, splits_of_tables

FILES = [f"{n}.jpg" for n in range(2000)]


def test_shares_are_about_those_of_the_rule() -> None:
    counts = Counter(SplitRule(0.2, 0.1).draw(FILES).values())
    assert abs(counts["val"] - 400) < 60 and abs(counts["test"] - 200) < 45


def test_a_file_keeps_its_split_when_files_are_added() -> None:
    before, after = SplitRule().draw(FILES[:1000]), SplitRule().draw(FILES)
    assert before.items() <= after.items()
    assert SplitRule(seed=1).draw(FILES) != after


@pytest.mark.parametrize("num", [3, 4, 7])
def test_few_files_have_every_split(num: int) -> None:
    for seed in range(20):
        drawn = SplitRule(seed=seed).draw(FILES[:num])
        assert set(drawn.values()) == {"train", "val", "test"}
        assert set(SplitRule(test=0, seed=seed).draw(FILES[:num]).values()) == {"train", "val"}
    assert SplitRule(0.5, 0.4).draw(FILES[:2]) == dict.fromkeys(FILES[:2], "train")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("test-00000-of-00003", "test"),
        ("captions_val", "val"),
        ("dev", "val"),
        ("my.validation.v2", "val"),
        ("training", "train"),
        ("latest", None),
        ("captions", None),
        ("train_test", None),
        ("trainer", None),
    ],
)
def test_splits_in_names(name: str, split: str | None) -> None:
    assert split_in_name(name) == split


def test_tables_that_are_all_train_say_nothing() -> None:
    assert splits_of_tables(["train.csv", "more.csv"]) == [None, None]
    assert splits_of_tables(["train.csv", "test.csv", "news.csv"]) == ["train", "test", "news"]
