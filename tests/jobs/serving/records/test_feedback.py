"""Feedback is a corpus that grows, and that a training takes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.records.feedback import FeedbackCorpus
from intertitle.jobs.serving.schemas import Feedback
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.item_file import ItemFile, open_item_file
from intertitle.pipeline.errors import UserError
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import build_vocabs
from intertitle.training.models.build import task_of
from tests.jobs.serving.tiny_models import described, noise_png, png
from tests.training.conftest import (
    DIM,
    Shown,
    make_loop,
    open_data_ref,
    small_recipe,
    write_features,
)

CAPTIONER = described("captioner", visual_input="pooled", output="sentence")
TRANSLATOR = described("translator", has_source=True, output="sentence")
TAGGER = described("tagger", visual_input="pooled", output="label_per_frame")


def judged(answer: str, good: bool = True, **fields: str) -> Feedback:
    return Feedback(run_id="r", answer=answer, good=good, **fields)


def all_targets(folder: Path) -> list[tuple[str, ...]]:
    return [example.targets for example in Corpus(folder).examples()]


def test_good_and_corrected_answers_are_examples(tmp_path: Path) -> None:
    kept = FeedbackCorpus(tmp_path)
    red, blue = png("red"), png("blue")
    assert kept.add(CAPTIONER, judged("a ball", good=False), red) == 0
    assert kept.add(CAPTIONER, judged("a red ball"), red) == 1
    corrected = judged("a red ball", good=False, correction="a blue\nball")
    assert kept.add(CAPTIONER, corrected, blue) == 2
    # Another process goes on.
    assert FeedbackCorpus(tmp_path).add(CAPTIONER, judged("blue"), blue) == 3
    corpus = Corpus(tmp_path)
    assert all_targets(tmp_path) == [("a red ball",), ("a blue ball",), ("blue",)]
    items = {item.key: item for item in corpus.items()}
    first, *_ = corpus.examples()
    with open_item_file(ItemFile(items[str(first.item_key)], str(tmp_path))) as (path, _):
        assert path.read_bytes() == red
    lines = (tmp_path / "feedback.jsonl").read_text().splitlines()
    assert [json.loads(line)["is_good"] for line in lines] == [False, True, False, True]


def test_a_model_is_trained_on_it(tmp_path: Path) -> None:
    recipe = small_recipe("s2vt", "training.epochs=1", "training.monitor=nats_per_token")
    task = task_of(recipe.model)
    kept = FeedbackCorpus(tmp_path / "corpus")
    for seed in range(30):
        # An answer to the same picture is in the same split.
        for answer in ("a ball", "a grey ball"):
            kept.add(CAPTIONER, judged(answer), noise_png(seed))
    corpus = Corpus(tmp_path / "corpus")
    splits = {(example.item_key, example.split) for example in corpus.examples()}
    assert len(splits) == 30
    assert 0 < sum(split == "val" for _, split in splits) < 10
    shown = [
        Shown(item.key, "", np.full((2, DIM), n, np.float32), ())
        for n, item in enumerate(corpus.items())
    ]
    features = write_features(tmp_path / "features", shown)
    data = open_data_ref(corpus.path, features, task.visual_input)
    words = build_vocabs(recipe, *texts_of(corpus, "train", task))
    loop = make_loop(data, words, recipe)
    loop.run()
    assert loop.progress.step > 0


@pytest.mark.parametrize(
    ("model", "text", "file", "field"),
    [
        (CAPTIONER, None, None, "data"),
        (CAPTIONER, "ein Ball", png(), "text"),
        (CAPTIONER, None, b"#EXTM3U\n", "data"),
        (TRANSLATOR, " \n", None, "text"),
        (TRANSLATOR, "ein Ball", png(), "data"),
        (TAGGER, None, png(), "model"),
    ],
)
def test_what_the_model_could_not_learn_from_is_refused(
    tmp_path: Path, model: Any, text: str | None, file: bytes | None, field: str
) -> None:
    kept = FeedbackCorpus(tmp_path)
    with pytest.raises(ApiError) as caught:
        kept.add(model, Feedback(run_id="r", answer="a", good=True, text=text), file)
    assert caught.value.field == field
    assert [path.name for path in tmp_path.rglob("*")] == ["media"]


def test_a_line_that_a_killed_process_has_left_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "feedback.jsonl"
    for answer in ("one", "two"):
        FeedbackCorpus(tmp_path).add(TRANSLATOR, judged(answer, text="eins"), None)
    os.truncate(log, log.stat().st_size - 9)
    kept = FeedbackCorpus(tmp_path)
    assert "feedback.jsonl: line 2 is incomplete" in caplog.text
    assert (tmp_path / "feedback.damaged").read_text().startswith('{"format_version"')
    assert kept.add(TRANSLATOR, judged("three", text="drei"), None) == 2
    assert all_targets(tmp_path) == [("one",), ("three",)]
    log.write_text("[]\n" + log.read_text())
    with pytest.raises(UserError, match=r"feedback.jsonl: line 1: .*allowed: a judgement"):
        FeedbackCorpus(tmp_path)


def test_the_files_of_callers_do_not_fill_the_disk(tmp_path: Path) -> None:
    file = noise_png(0)
    kept = FeedbackCorpus(tmp_path, max_bytes=len(file) + 1000)
    assert kept.add(CAPTIONER, judged("a"), file) == 1
    # The same file takes no more space.
    assert kept.add(CAPTIONER, judged("b"), file) == 2
    with pytest.raises(ApiError, match="feedback") as caught:
        kept.add(CAPTIONER, judged("c"), noise_png(1))
    assert caught.value.status == 507
    assert len(list((tmp_path / "media").iterdir())) == 1
