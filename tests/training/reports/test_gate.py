"""What lets a challenger through, and what does not."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.reports.compare import EvaluatedRun
from intertitle.training.reports.gate import GateConfig, decide
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
def test_better_by_the_margin_for_certain(share: float, margin: float, promoted: bool) -> None:
    gate = GateConfig(metric="accuracy", margin=margin)
    decision = decide(measured("challenger", share), CHAMPION, gate)
    assert decision.promote == promoted
    against = [reason for reason in decision.reasons if reason.startswith("no:")]
    assert bool(against) != promoted
    assert all("accuracy" in reason for reason in against)


def test_a_metric_of_which_less_is_better() -> None:
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
        (("", *ANSWERS[1:]), "1 of 200 answers are empty"),
        (("a dog runs",) * B, "1 different answers"),
        (tuple(f"dog{n}" for n in range(B)), "1.0 words an answer"),
        (tuple(f"{answer} " * 4 for answer in ANSWERS), "16.0 words an answer"),
    ],
)
def test_a_model_that_scores_well_but_talks_nonsense_is_refused(
    answers: tuple[str, ...], why: str
) -> None:
    gate = GateConfig(metric="accuracy")
    decision = decide(measured("challenger", 0.9, answers), CHAMPION, gate)
    assert not decision.promote
    (against,) = [reason for reason in decision.reasons if reason.startswith("no:")]
    assert why in against
    assert why in decision.to_markdown()


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
def test_two_answers_at_least_have_to_differ_however_small_the_share_asked_for(
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


def test_a_metric_that_was_not_measured_is_refused() -> None:
    with pytest.raises(UserError, match="cider"):
        decide(measured("challenger", 0.9), CHAMPION, GateConfig(metric="cider"))
