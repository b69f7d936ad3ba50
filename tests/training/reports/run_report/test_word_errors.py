"""Which words are invented, and which are missing."""

from __future__ import annotations

from pathlib import Path

from intertitle.training.config.metrics import MetricTask
from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.record import EvaluationRecord, read_record, write_record
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.reports.run_report.word_errors import NUM_WORDS, WordErrors, word_errors


def recorded(
    folder: Path, *pairs: tuple[str, tuple[str, ...]], metric: str, task: MetricTask
) -> EvaluationRecord:
    """An evaluation of predictions with their references."""
    samples = tuple(Sample(str(n), None, None, *pair, -1.0) for n, pair in enumerate(pairs))
    # Of labels of frames the samples have the line, and the scores the label of each.
    frames = task == "label_per_frame"
    scores = Scorer(task, [s.references for s in samples]).score(
        [s.hypothesis.split(" | ") if frames else s.hypothesis for s in samples], [metric]
    )
    write_record(
        folder, Evaluation("val", samples, len(samples), 0, scores), {"split": "val", "task": task}
    )
    return read_record(folder)


def test_words_are_counted_once_an_example(tmp_path: Path) -> None:
    record = recorded(
        tmp_path,
        # "big" is in one of three references: it is neither invented nor expected.
        ("A big dog, a dog.", ("the cat sits", "a cat sits", "a big cat sits")),
        ("a cat sits", ("A cat sits!",)),
        ("", ("a cat",)),
        metric="sacrebleu",
        task="caption",
    )
    assert word_errors(record) == [
        WordErrors("cat", predicted=1, invented=0, expected=3, missing=2),
        WordErrors("dog", predicted=1, invented=1, expected=0, missing=0),
        WordErrors("sits", predicted=1, invented=0, expected=2, missing=1),
        WordErrors("a", predicted=2, invented=0, expected=3, missing=1),
    ]


def test_a_label_is_one_word(tmp_path: Path) -> None:
    record = recorded(
        tmp_path,
        ("New York", ("New York",)),
        ("New York", ("Old York",)),
        metric="accuracy",
        task="label",
    )
    assert word_errors(record) == [
        WordErrors("New York", predicted=2, invented=1, expected=1, missing=0),
        WordErrors("Old York", predicted=0, invented=0, expected=1, missing=1),
    ]


def test_the_list_is_short(tmp_path: Path) -> None:
    pairs = [(f"wrong{n}", (f"right{n}",)) for n in range(NUM_WORDS)]
    assert (
        len(word_errors(recorded(tmp_path, *pairs, metric="sacrebleu", task="caption")))
        == NUM_WORDS
    )


def test_sequences_of_labels_have_no_words(tmp_path: Path) -> None:
    pair = ("rest | pour", ("rest", "stir"))
    assert word_errors(recorded(tmp_path, pair, metric="accuracy", task="label_per_frame")) == []
