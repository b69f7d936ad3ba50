"""Feedback is a corpus that grows, and that a training takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.records.feedback import FeedbackCorpus
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.item_file import ItemFile, open_item_file
from tests.jobs.serving.tiny_models import png
from tests.training.conftest import open_data_ref


def test_good_and_corrected_answers_are_examples(tmp_path: Path) -> None:
    kept = FeedbackCorpus(tmp_path)
    red, blue = png("red"), png("blue")
    assert kept.add("m", "r", "a ball", False, file=red) == 0
    assert kept.add("m", "r", "a red ball", True, file=red) == 1
    assert kept.add("m", "r", "a red ball", False, "a blue\nball", file=blue) == 2
    # Another process goes on.
    assert FeedbackCorpus(tmp_path).add("m", "r", "ein", True, "one", text="eins") == 3
    corpus = Corpus(tmp_path)
    examples = corpus.examples("train")
    targets = [example.targets for example in examples]
    assert targets == [("a red ball",), (r"a blue\nball",), ("one",)]
    assert [example.source for example in examples] == [None, None, "eins"]
    items = {item.key: item for item in corpus.items()}
    assert [example.item_key in items for example in examples] == [True, True, False]
    with open_item_file(ItemFile(items[str(examples[0].item_key)], str(tmp_path))) as (path, _):
        assert path.read_bytes() == red
    lines = (tmp_path / "feedback.jsonl").read_text().splitlines()
    assert [json.loads(line)["is_good"] for line in lines] == [False, True, False, True]
    assert open_data_ref(tmp_path, None, "nothing").corpus == str(tmp_path)


def test_a_file_that_is_no_picture_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="playlist"):
        FeedbackCorpus(tmp_path).add("m", "r", "a", True, file=b"#EXTM3U\n")
    assert not list((tmp_path / "media").iterdir())
