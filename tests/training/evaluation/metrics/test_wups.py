"""WUPS of answers: the worked examples of its papers, and its rules for sets of words."""

from __future__ import annotations

import pytest

from intertitle.training.config.metrics import NotMeasuredError, metric_task
from intertitle.training.data.task import Task
from intertitle.training.evaluation.metrics import wordnet, wups
from intertitle.training.evaluation.metrics.sufficient_stats import combine
from intertitle.training.evaluation.metrics.wordnet import open_nouns
from intertitle.training.evaluation.scorers import Scorer


@pytest.mark.parametrize(
    ("first", "second", "similarity"),
    [
        # Malinowski & Fritz 2014, section 4.1.
        ("curtain", "blinds", 0.94),
        ("carton", "box", 0.94),
        ("stove", "fire_extinguisher", 0.82),
        # NLTK's documentation of `wup_similarity`, of dog.n.01 and cat.n.01.
        ("dog", "cat", 12 / 14),
        ("stove", "fire extinguisher", 0.82),
        ("Cat", "cats", 1),
        ("child", "children", 1),
        ("man", "men", 1),
        ("foot", "feet", 1),
        # The past of leave is a direction before it is a verb.
        ("left", "left", 1),
        ("cat", "qwerty", 0),
    ],
)
def test_similarity_of_nouns(first: str, second: str, similarity: float) -> None:
    nouns = open_nouns()
    assert nouns.similarity(first, second) == pytest.approx(similarity, abs=0.005)
    assert nouns.similarity(second, first) == pytest.approx(similarity, abs=0.005)


def test_an_irregular_form_of_a_verb_is_no_plural() -> None:
    nouns = open_nouns()
    assert not {*nouns.synsets("leave")} & {*nouns.synsets("left")}


@pytest.mark.parametrize(
    ("answer", "reference", "at_0_9", "at_0_0"),
    [
        ("curtain", "blinds", 0.9412, 0.9412),
        ("stove", "fire_extinguisher", 0.0824, 0.8235),
        ("qwerty", "qwerty", 1, 1),
        ("", "cat", 0, 0),
        ("book, cat", "cat,book", 1, 1),
        # A word too few or too many counts like its most similar word in the other set.
        ("cat", "cat, dog", 0.0857, 0.8571),
        ("cat, dog", "cat", 0.0857, 0.8571),
        ("curtain, carton", "blinds, box", 0.8858, 0.8858),
    ],
)
def test_wups_of_sets_of_words(answer: str, reference: str, at_0_9: float, at_0_0: float) -> None:
    for threshold, score in ((0.9, at_0_9), (0.0, at_0_0)):
        assert wups.wups(answer, reference, threshold, open_nouns()) == pytest.approx(
            score, abs=1e-4
        )


def test_questions_are_scored_with_statistics_of_each_example() -> None:
    references = [["blinds"], ["fire extinguisher"], ["cat", "dog", "dog"]]
    scores = Scorer("answer", references).score(["curtain", "stove", "cat"])
    each = combine("wups_0_9", scores.statistics["wups_0_9"])
    assert each == pytest.approx([94.12, 8.24, 8.57], abs=0.01)
    assert scores.values["wups_0_9"] == pytest.approx(each.mean())
    assert scores.values["wups_0_0"] == pytest.approx((94.118 + 82.353 + 85.714) / 3, abs=0.01)
    assert scores.values["accuracy"] == 0
    quick = Scorer("answer", references).score(["a", "b", "c"], quick=True)
    assert quick.values.keys() == {"accuracy", "vqa_accuracy"}
    assert "wups_0_9" not in Scorer("label", references).score(["a", "b", "c"]).values


def test_without_the_package_the_evaluation_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> wordnet.Nouns:
        raise NotMeasuredError("WordNet is not installed")

    monkeypatch.setattr(wups, "open_nouns", missing)
    scores = Scorer("answer", [["cat"]]).score(["cat"])
    assert scores.values == {"accuracy": 100}
    assert scores.not_measured["wups_0_9"] == "WordNet is not installed"


def test_only_labels_about_an_item_with_a_question_are_answers() -> None:
    assert metric_task(Task("grid", has_source=True, output="label")) == "answer"
    assert metric_task(Task("nothing", has_source=True, output="label")) == "label"
    assert metric_task(Task("pooled", has_source=False, output="label")) == "label"
