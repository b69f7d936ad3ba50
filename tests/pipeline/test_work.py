"""What a worker does to a chunk: good items go on, bad ones are named, attempts never collide."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Corpus, Item
from pipeline.sampling import Uniform
from pipeline.shards import open_shard
from pipeline.work import DecodedItem, Source, decode_chunk, write_features

DIM = 2


def made(key: str, length: int = 2) -> DecodedItem:
    source = Source(Item(key, key, "video"), Path("/nowhere") / key)
    return DecodedItem(source, None, np.arange(length, dtype=np.float64))


def test_bad_items_leave_no_frames_and_do_not_disturb_the_others(
    clips: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("not a film\n" * 100)
    os.mkfifo(tmp_path / "pipe.mp4")
    first, second = Corpus(clips).items()[:2]
    sources = [
        Source(first, clips / first.uri),
        *(Source(Item(n, n, "video"), tmp_path / n) for n in ("text.mp4", "pipe.mp4", "none.mp4")),
        Source(second, clips / second.uri),
    ]
    decoded, frames = decode_chunk(sources, Uniform(4), 64)
    assert [item.source for item in decoded] == sources
    errors = [item.rejection and (item.rejection.stage, item.rejection.error) for item in decoded]
    assert errors == [
        None,
        ("decode", "unreadable"),
        ("decode", "refused"),
        ("decode", "missing"),
        None,
    ]
    # Only what could be read has a hash, so that a rerun knows whether it changed.
    assert [item.state is not None for item in decoded] == [True, True, False, False, True]
    assert [len(item.times_s) for item in decoded] == [4, 0, 0, 0, 4]
    alone = [decode_chunk([sources[index]], Uniform(4), 64)[1] for index in (0, 4)]
    assert np.array_equal(frames, np.concatenate(alone))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_quarantined_alone(bad: float, tmp_path: Path) -> None:
    values = np.arange(14, dtype=np.float32).reshape(7, DIM)
    values[3, 1] = bad
    items = [made("a", 3), made("b", 1), made("c", 3)]
    ended, file = write_features(tmp_path / "shard", "arrow", DIM, items, values[:2], values[2:])
    assert [item.rejection and item.rejection.error for item in ended] == [None, "not_finite", None]
    assert file.num_rows == 2
    shard = open_shard(tmp_path / file.name, "arrow")
    assert [shard.row(n).key for n in range(2)] == ["a", "c"]
    assert np.array_equal(shard.row(1).values, values[4:])


def test_each_attempt_is_a_file_of_its_own_with_the_same_bytes(tmp_path: Path) -> None:
    arguments = (tmp_path / "shard", "arrow", DIM, [made("a")], np.ones((2, DIM), np.float32))
    (_, one), (_, other) = (write_features(*arguments) for _ in range(2))
    assert one.name != other.name and one.sha256 == other.sha256
    assert {file.name for file in tmp_path.iterdir()} == {one.name, other.name}


def test_features_that_are_too_few_or_too_many_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="2 frames decoded, 3 features made"):
        write_features(tmp_path / "shard", "arrow", DIM, [made("a")], np.ones((3, DIM), np.float32))
