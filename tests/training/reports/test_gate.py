"""What lets a challenger through, and what does not."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError
from intertitle.training.config.gate import GateConfig
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.reports.compare import compare
from intertitle.training.reports.evaluations import EvaluatedRun
from intertitle.training.reports.gate import decide
from intertitle.training.tracking.store.client import RunRef

B = 200
ANSWERS = tuple(f"a dog runs {n}" for n in range(B))


def measured(
    name: str, share: float, answers: tuple[str, ...] = ANSWERS, *, nats: float = 1.0
) -> EvaluatedRun:
    """A run whose first answers are right, as large a share of them as is said."""
    right = 100.0 * (np.arange(B) < round(share * B))
    ones = np.ones(B)
    statistics: dict[str, NDArray[np.float64]] = {
        "accuracy": np.stack([right, ones], 1),
        "rouge_l": np.stack([100 - right / 2, ones], 1),
        "nats_per_token": np.stack([nats * (1 + np.arange(B) % 3), ones], 1),
    }
    record = EvaluationRecord(
        description={
            "split": "val",
            "data": {"corpus": "c"},
            "search": {},
            "ensemble": ["r"],
            "signatures": dict.fromkeys(statistics, "s"),
        },
        ids=tuple(map(str, range(B))),
        item_keys=(None,) * B,
        sources=(None,) * B,
        hypotheses=answers,
        references=tuple((f"the dog runs {n}", "a dog") for n in range(B)),
        scores=np.zeros(B),
        reference_scores=np.full(B, np.nan),
        statistics=statistics,
    )
    return EvaluatedRun(RunRef(name, name, "sqlite://"), {}, record)


CHAMPION = measured("champion", 0.5)


@pytest.mark.parametrize(
    ("share", "margin", "promoted"),
    [
        (0.65, 0.0, True),
        (0.65, 8.0, True),
        (0.65, 14.0, False),  # better by 15, but not for certain by 14
        (0.51, 0.0, False),  # two more are right: many a resample holds neither
        (0.5, 0.0, False),
        (0.4, 0.0, False),
    ],
)
def test_the_interval_must_lie_above_the_margin(
    share: float, margin: float, promoted: bool
) -> None:
    gate = GateConfig(metric="accuracy", margin=margin)
    decision = decide(measured("challenger", share), CHAMPION, gate)
    assert decision.promote == promoted
    against = [reason for reason in decision.reasons if reason.startswith("no:")]
    assert bool(against) != promoted
    assert all("accuracy" in reason for reason in against)


def test_a_margin_has_to_be_passed_and_not_only_met() -> None:
    # Of every resample, the difference is 100 exactly.
    for margin, promoted in ((99.9, True), (100.0, False)):
        gate = GateConfig(metric="accuracy", margin=margin)
        assert decide(measured("other", 1.0), measured("first", 0.0), gate).promote == promoted


def test_a_decision_reads_as_a_list_of_reasons() -> None:
    challenger = measured("challenger", 0.7, nats=0.8)
    difference = compare([CHAMPION, challenger]).against_baseline[0].differences
    accuracy, nats = difference["accuracy"], difference["nats_per_token"]
    gate = GateConfig(metric="accuracy", margin=0.5, guards={"nats_per_token": 0.01})
    decision = decide(challenger, CHAMPION, gate)
    assert decision.reasons == (
        "yes: 0 of 200 predictions are empty",
        "yes: 200 distinct predictions, 200 distinct references",
        "yes: 4.0 words per prediction, 3.0 per reference (allowed 1.5 to 6.0)",
        "yes: accuracy 70, champion 50: improvement +20 (95 % interval "
        f"{accuracy.low:+.3g} to {accuracy.high:+.3g}); the interval must lie above 0.5",
        # Of negative log-likelihoods, less is better.
        "yes: nats_per_token 1.596, champion 1.995: improvement +0.399 (95 % interval "
        f"{-nats.high:+.3g} to {-nats.low:+.3g}); allowed drop 0.01",
    )
    lines = decision.to_markdown().splitlines()
    assert lines == ["## Promoted", "", *(f"- {reason}" for reason in decision.reasons)]
    refused = decide(CHAMPION, challenger, gate)
    assert refused.to_markdown().startswith("## Refused\n")
    assert [reason[:3] for reason in refused.reasons[3:]] == ["no:", "no:"]
    assert "improvement -0.399 (95 % interval " in refused.reasons[4]
    first = decide(CHAMPION, None, gate)
    assert (first.promote, first.reasons[3:]) == (True, ("yes: there is no champion yet",))


def test_a_metric_for_which_smaller_is_better() -> None:
    gate = GateConfig(metric="nats_per_token", margin=0.1)
    assert decide(measured("challenger", 0.5, nats=0.9), CHAMPION, gate).promote
    assert not decide(measured("challenger", 0.5, nats=0.99), CHAMPION, gate).promote
    assert not decide(measured("challenger", 0.5, nats=1.5), CHAMPION, gate).promote


def test_a_guarded_metric_may_fall_within_its_tolerance_alone() -> None:
    challenger = measured("challenger", 0.7)  # ROUGE-L falls by 10
    for tolerance, promoted in ((9.0, False), (9.99, False), (10.0, True), (11.0, True)):
        gate = GateConfig(metric="accuracy", guards={"rouge_l": tolerance})
        decision = decide(challenger, CHAMPION, gate)
        assert decision.promote == promoted
        (guarded,) = [reason for reason in decision.reasons if "rouge_l" in reason]
        assert guarded.startswith("yes:" if promoted else "no:")


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (("", *ANSWERS[1:]), "1 of 200 predictions are empty"),
        (("a dog runs",) * B, "1 distinct predictions"),
        (tuple(f"dog{n}" for n in range(B)), "1.0 words per prediction"),
        (tuple(f"{answer} " * 4 for answer in ANSWERS), "16.0 words per prediction"),
    ],
)
def test_a_model_with_degenerate_predictions_is_refused(answers: tuple[str, ...], why: str) -> None:
    gate = GateConfig(metric="accuracy")
    decision = decide(measured("challenger", 0.9, answers), CHAMPION, gate)
    assert not decision.promote
    (against,) = [reason for reason in decision.reasons if reason.startswith("no:")]
    assert why in against
    assert why in decision.to_markdown()


@pytest.mark.parametrize(
    ("num_words", "promoted"), [(1, False), (2, True), (4, True), (8, True), (9, False)]
)
def test_answers_may_be_half_as_long_as_those_of_people_and_twice(
    num_words: int, promoted: bool
) -> None:
    challenger = measured("challenger", 0.9)
    answers = tuple("a " * (num_words - 1) + str(n) for n in range(B))
    references = tuple((f"the dog runs {n}", f"the dog runs {n + 1}") for n in range(B))
    record = replace(challenger.record, hypotheses=answers, references=references)
    gate = GateConfig(metric="accuracy")
    assert decide(replace(challenger, record=record), None, gate).promote == promoted


@pytest.mark.parametrize(("num_empty", "promoted"), [(2, True), (3, False)])
def test_a_share_of_the_answers_may_be_empty(num_empty: int, promoted: bool) -> None:
    answers = (*("", " ", "\t")[:num_empty], *ANSWERS[num_empty:])
    gate = GateConfig(metric="accuracy", max_empty=0.01)
    assert decide(measured("challenger", 0.9, answers), None, gate).promote == promoted


def test_running_text_has_no_answers_to_look_at() -> None:
    challenger = measured("challenger", 0.5, ("",) * B, nats=0.9)
    record = replace(challenger.record, references=((),) * B)
    champion = replace(CHAMPION, record=replace(CHAMPION.record, references=((),) * B))
    gate = GateConfig(metric="nats_per_token")
    decision = decide(replace(challenger, record=record), champion, gate)
    assert decision.promote and len(decision.reasons) == 1


@pytest.mark.parametrize(
    ("said", "people", "promoted"),
    [
        (("yes",), ("yes", "no"), False),
        (("yes", "no"), ("yes", "no"), True),
        (("yes", "no"), ("yes", "no", "one", "two"), True),
        # Where people say one thing alone, so may the model.
        (("yes",), ("yes",), True),
    ],
)
def test_at_least_two_distinct_predictions_are_required(
    said: tuple[str, ...], people: tuple[str, ...], promoted: bool
) -> None:
    def labels(of: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(of[n % len(of)] for n in range(B))

    challenger = measured("challenger", 0.9, labels(said))
    references = tuple((label,) for label in labels(people))
    challenger = replace(challenger, record=replace(challenger.record, references=references))
    for share in (0.0, 0.05):
        gate = GateConfig(metric="accuracy", min_distinct=share)
        decision = decide(challenger, None, gate)
        assert decision.promote == promoted, decision.reasons


def test_a_share_of_the_answers_has_to_differ() -> None:
    for num, promoted in ((20, True), (19, False)):
        answers = tuple(f"a dog runs {n % num}" for n in range(B))
        gate = GateConfig(metric="accuracy", min_distinct=0.1)
        assert decide(measured("challenger", 0.9, answers), None, gate).promote == promoted


def test_the_first_model_has_to_be_sane_alone() -> None:
    gate = GateConfig(metric="accuracy")
    assert decide(measured("challenger", 0.1), None, gate).promote
    assert not decide(measured("challenger", 0.1, ("",) * B), None, gate).promote


@pytest.mark.parametrize(
    ("required", "promoted"),
    [
        ({"accuracy": 80.0}, True),
        ({"accuracy": 91.0}, False),
        ({"accuracy": 80.0, "nats_per_token": 1.9}, False),
        ({"nats_per_token": 2.1}, True),
    ],
)
def test_every_model_needs_the_required_scores(required: dict[str, float], promoted: bool) -> None:
    gate = GateConfig(metric="accuracy", required=required)
    for champion in (None, measured("champion", 0.2)):
        assert decide(measured("challenger", 0.9), champion, gate).promote == promoted
    decision = decide(measured("challenger", 0.9), None, GateConfig(required={"accuracy": 91}))
    assert "no: accuracy 90, required at least 91" in decision.reasons
    with pytest.raises(UserError, match="cider"):
        decide(measured("challenger", 0.9), None, GateConfig(required={"cider": 0.1}))


def test_a_metric_that_was_not_measured_is_refused() -> None:
    with pytest.raises(UserError, match="cider"):
        decide(measured("challenger", 0.9), CHAMPION, GateConfig(metric="cider"))
