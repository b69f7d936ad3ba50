"""Confusion of labels: precision, recall and F1 by their definitions."""

from __future__ import annotations

import json

import pytest

from intertitle.training.data.task import Task
from intertitle.training.evaluation.confusion import LabelScore, count_confusion
from intertitle.training.reports.plots import NUM_LABELS, confusion_matrix

LABEL, FRAMES = Task("nothing", True, "label"), Task("pooled", False, "label_per_frame")


def test_labels_have_precision_recall_and_f1() -> None:
    references = [["a"], ["a"], ["a"], ["b"], ["c", "b", "b"], ["d"]]
    outputs = [("a",), ("a",), ("b",), ("b",), ("a",), ("e",)]
    confusion = count_confusion(references, outputs, LABEL)
    assert confusion is not None
    assert confusion.counts == {
        ("a", "a"): 2,
        ("a", "b"): 1,
        ("b", "a"): 1,
        ("b", "b"): 1,
        ("d", "e"): 1,
    }
    two_thirds = pytest.approx(200 / 3)
    assert confusion.labels == (
        LabelScore("a", two_thirds, two_thirds, two_thirds, 3),
        LabelScore("b", 50, 50, 50, 2),
        LabelScore("d", 0, 0, 0, 1),
        LabelScore("e", 0, 0, 0, 0),
    )
    # A label without an example does not count.
    assert confusion.macro_f1 == pytest.approx((200 / 3 + 50 + 0) / 3)
    assert json.loads(json.dumps(confusion.to_json()))["counts"][0] == ["a", "a", 2]


def test_frames_are_counted_and_sentences_are_not() -> None:
    references, outputs = [["a", "b", "b"], ["a"]], [("a", "a", "b"), ("b",)]
    confusion = count_confusion(references, outputs, FRAMES)
    assert confusion is not None
    assert confusion.counts == {
        ("a", "a"): 1,
        ("a", "b"): 1,
        ("b", "a"): 1,
        ("b", "b"): 1,
    }
    assert count_confusion([["a"]], [("a",)], Task("pooled", False, "sentence")) is None


def test_the_figure_shows_the_most_frequent_labels() -> None:
    names = [f"label {n:02}" for n in range(NUM_LABELS + 5)]
    confusion = count_confusion([[name] for name in names], [(n,) for n in names[::-1]], LABEL)
    assert confusion is not None
    axes = confusion_matrix(confusion).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == names[:NUM_LABELS]
    assert axes.get_xticklabels()[-1].get_text() == "(others)"
    assert axes.images[0].get_array().sum() == NUM_LABELS
