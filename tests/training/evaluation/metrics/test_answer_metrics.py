"""Scores of one label: VQA's accuracy by its definition, and what normalization makes equal."""

import random

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import MetricTask
from intertitle.training.evaluation.metrics.answer_metrics import vqa_accuracy
from intertitle.training.evaluation.metrics.scores import Scores
from intertitle.training.evaluation.metrics.sufficient_stats import combine
from intertitle.training.evaluation.scorers import Scorer


def same(answer: str, other: str) -> bool:
    """Whether the nine who say `other` are found to agree with the answer, one saying otherwise."""
    (accuracy,) = vqa_accuracy([answer], [[other] * 9 + ["something else"]])
    assert accuracy in (0, 1)
    return accuracy == 1


def each(scores: Scores, metric: str) -> list[float]:
    """The score of each example."""
    examples: list[float] = combine(metric, scores.statistics[metric]).tolist()
    return examples


def test_vqa_accuracy_is_the_mean_over_each_of_ten_people_left_out() -> None:
    dice = random.Random(0)
    for _ in range(200):
        people = dice.choices(["red", "blue", "green"], weights=[6, 3, 1], k=10)
        for answer in ("red", "blue", "green", "black"):
            others = [people[:left_out] + people[left_out + 1 :] for left_out in range(10)]
            mean = sum(min(1, rest.count(answer) / 3) for rest in others) / 10
            assert vqa_accuracy([answer], [people]) == [pytest.approx(mean)]


def test_an_answer_repeated_n_times_has_the_soft_score_of_n_thirds() -> None:
    # As OK-VQA has them: {"santa fe": 1, "new england": 0.667, "bnsf": 0.667, "sante fe": 0.667}.
    answers = [*["santa fe"] * 3, *["new england", "bnsf", "sante fe"] * 2]
    asked = ["santa fe", "new england", "bnsf", "denver"]
    assert vqa_accuracy(asked, [answers] * 4) == pytest.approx([1, 2 / 3, 2 / 3, 0])
    assert vqa_accuracy(["a", "b"], [["a"] * 4 + ["b"], ["b"]]) == pytest.approx([1, 1 / 3])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Two Dogs", "2 dogs"),
        ("none", "0"),
        ("the man's hat", "man's hat"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("twas", "'twas"),
        ("black/white", "black white"),
        ("black, white", "black white"),
        ("well-known", "well known"),
        ("1,000", "1000"),
        ("1,000/2", "10002"),  # a comma in a number joins at every mark
        ("U.S.A.", "usa"),
        ("...", ""),
        ("a\nred\tcar ", "red car"),
        ("{yes!}", "yes"),
        # A mark beside a space joins wherever it stands.
        ("black,white ,red", "blackwhite red"),
        ("black,white, red", "blackwhite red"),
        ("." * 32, ""),
    ],
)
def test_normalization_makes_equal(one: str, other: str) -> None:
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3.5", "35"),
        ("shes", "she's"),
        ("lets", "let's"),
        ("eleven", "11"),
        ("black/white", "blackwhite"),
        ("man's", "mans"),
        ("." * 33, ""),  # the official code removes 32
    ],
)
def test_normalization_keeps_apart(one: str, other: str) -> None:
    assert not same(one, other)
    assert not same(other, one)


def test_where_the_ten_agree_only_the_ends_are_trimmed() -> None:
    people = [["Yes"] * 10] * 4
    assert vqa_accuracy(["Yes", "yes", "Yes.", "\nYes "], people) == [1, 0, 0, 1]
    assert vqa_accuracy(["yes"], [["Yes\n"] * 9 + ["Yes"]]) == [0]


def test_vqa_accuracy_wants_an_answer_for_each_question() -> None:
    with pytest.raises(UserError, match="1 for 2 examples"):
        vqa_accuracy(["a"], [["a"] * 10] * 2)


def test_answers_are_scored_against_the_commonest_reference() -> None:
    scores = Scorer("label", [["red", "blue", "blue"], ["one", "two"], ["yes"]]).score(
        ["blue", "two", "Yes"]
    )
    assert each(scores, "accuracy") == [100, 0, 0]
    assert scores.values["accuracy"] == pytest.approx(100 / 3)
    assert scores.signatures["accuracy"] == "accuracy|ref:majority|nrefs:var"
    alone = Scorer("label", [["red"], ["one"]]).score(["red", "two"])
    assert alone.values == {"accuracy": 50}
    assert alone.signatures == {"accuracy": "accuracy|ref:majority|nrefs:1"}
    assert alone.warnings == ()


def test_with_ten_references_each_vqa_accuracy_is_scored_too() -> None:
    ten = [["2"] * 6 + ["two"] * 2 + ["3", "4"], ["cat"] * 10]
    scores = Scorer("label", ten).score(["3", "cat"])
    assert each(scores, "accuracy") == [0, 100]
    assert each(scores, "vqa_accuracy") == pytest.approx([30, 100])
    assert scores.values == {"accuracy": 50, "vqa_accuracy": pytest.approx(65)}
    assert scores.signatures.keys() == scores.values.keys()
    assert each(Scorer("label", ten).score(["two", ""]), "accuracy") == [0, 0]


def test_one_question_with_fewer_answers_costs_no_metric() -> None:
    scores = Scorer("label", [["cat"] * 10, ["dog"] * 9]).score(["cat", "dog"])
    assert scores.values == {"accuracy": 100, "vqa_accuracy": 100}
    assert scores.signatures["vqa_accuracy"].startswith("vqa_accuracy|nrefs:var|")
    assert scores.warnings == (
        "vqa_accuracy: 1 of 2 questions have another number of answers than VQA's 10",
    )
    few = Scorer("label", [["cat"] * 10, ["dog"] * 2]).score(["cat", "dog"])
    assert few.values["vqa_accuracy"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert few.warnings[0].endswith("; 1 have fewer than 3, whose best answer is below 100")
    assert Scorer("label", [["cat"] * 10]).score(["cat"]).warnings == ()
    (warning,) = Scorer("label", [["cat"] * 10, ["dog"] * 3]).score(["cat", "dog"]).warnings
    assert warning.endswith("than VQA's 10")


def test_frames_and_whole_sequences_are_scored() -> None:
    scores = Scorer("label_per_frame", [["a", "b", "b", "a"], ["c"]]).score(
        [["a", "b", "a", "c"], ["c"]]
    )
    assert scores.values["accuracy"] == pytest.approx(60)
    assert scores.values["exact_match"] == 50
    assert each(scores, "accuracy") == [50, 100]
    assert each(scores, "exact_match") == [0, 100]
    assert scores.signatures.keys() == scores.values.keys()


@pytest.mark.parametrize("task", ["label", "label_per_frame"])
def test_references_that_are_missing_are_refused(task: MetricTask) -> None:
    for references, message in (
        ([], "0 examples"),
        ([["a"], []], "example 1 has none"),
        ([["a"], ["b", " "]], "example 1 has an empty one"),
        ([["a"], "b"], "example 1 is one string"),
    ):
        with pytest.raises(UserError, match=message):
            Scorer(task, references)


def test_hypotheses_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="1 for 2 examples"):
        Scorer("label", [["a"], ["b"]]).score(["a"])
    with pytest.raises(UserError, match="1 for 2 examples"):
        Scorer("label_per_frame", [["a"], ["b"]]).score([["a"]])
    with pytest.raises(UserError, match="example 1 has 1 labels for 2 frames"):
        Scorer("label_per_frame", [["a"], ["b", "c"]]).score([["a"], ["b"]])
    with pytest.raises(UserError, match="example 0 has 3 labels for 1 frames"):
        Scorer("label_per_frame", [["a"], ["b", "c"]]).score([["a"] * 3, ["b", "c"]])
