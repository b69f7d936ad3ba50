"""The paired bootstrap: right as often as it says, and fast enough to wait for."""

import numpy as np
import pytest
from numpy.typing import NDArray

from intertitle.training.evaluation import significance
from intertitle.training.evaluation.significance import (
    NUM_RESAMPLES,
    Difference,
    differences,
    resampled_sums,
    score_intervals,
)

Floats = NDArray[np.float64]


def mean_of(scores: Floats) -> dict[str, Floats]:
    return {"cider": np.stack([scores, np.ones_like(scores)], 1)}


def test_a_resample_is_as_large_as_the_set() -> None:
    counts = resampled_sums(np.eye(7))
    assert counts.shape == (NUM_RESAMPLES, 7)
    assert (counts.sum(1) == 7).all()
    assert counts.mean(0) == pytest.approx(np.ones(7), abs=0.1)
    assert (resampled_sums(np.eye(7)) == counts).all()


def test_resamples_do_not_hang_on_the_memory_that_they_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = resampled_sums(np.eye(7))
    for max_weights in (1, 7 * 100, 7 * 100 + 6, 7 * NUM_RESAMPLES):
        monkeypatch.setattr(significance, "_MAX_WEIGHTS", max_weights)
        assert np.array_equal(resampled_sums(np.eye(7)), expected)


def test_the_interval_is_that_of_a_normal_distribution() -> None:
    rng = np.random.default_rng(0)
    first, change = rng.normal(size=(2, 400))
    ((found,),) = [each.values() for each in differences([mean_of(first), mean_of(first + change)])]
    error = change.std() / np.sqrt(len(change))
    assert found.value == pytest.approx(change.mean())
    assert found.low == pytest.approx(change.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(change.mean() + 1.96 * error, abs=0.15 * error)


def test_a_score_has_an_interval_around_it() -> None:
    scores = np.random.default_rng(0).normal(5, 1, 400)
    (found,) = score_intervals(mean_of(scores)).values()
    error = 1.96 * scores.std() / np.sqrt(len(scores))
    assert found.value == pytest.approx(scores.mean())
    ends = (found.low, found.high)
    assert ends == pytest.approx((scores.mean() - error, scores.mean() + error), abs=0.1 * error)
    assert score_intervals({}) == {}


def test_systems_that_are_alike_seldom_differ() -> None:
    rng = np.random.default_rng(1)
    told = 0
    for _ in range(200):
        first, other = rng.normal(size=(2, 50))
        (found,) = differences([mean_of(first), mean_of(other)])
        told += found["cider"].verdict("cider") != "no significant difference"
    assert 3 <= told <= 24  # one in twenty


def test_p_and_the_interval_say_the_same() -> None:
    rng = np.random.default_rng(2)
    seen = set()
    for shift in np.linspace(0, 0.6, 80):
        scores = rng.normal(size=40)
        (found,) = differences([mean_of(np.zeros(40)), mean_of(scores + shift)])
        one = found["cider"]
        assert (one.p <= 0.05) == (one.low > 0 or one.high < 0)
        seen.add(one.p <= 0.05)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("num_negative", "p"),
    # p counts one more than were seen on the rarer side: 2 * (0 + 1) / 2000 and so on.
    [(0, 0.001), (1, 0.002), (49, 0.05), (50, 0.051), (999, 1.0), (1949, 0.051), (1950, 0.05)],
)
def test_the_interval_leaves_out_49_resamples_on_either_side(
    num_negative: int, p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert NUM_RESAMPLES == 1999
    changes = np.arange(NUM_RESAMPLES) - num_negative + 0.5
    ones = np.ones(NUM_RESAMPLES)
    shuffled = np.random.default_rng(0).permutation(changes)
    sums = np.stack([0 * ones, ones, shuffled, ones], 1)
    monkeypatch.setattr(significance, "resampled_sums", lambda statistics: sums)
    (found,) = differences([mean_of(np.zeros(2)), mean_of(np.zeros(2))])
    one = found["cider"]
    assert one.p == pytest.approx(p)
    assert (one.low, one.high) == (changes[49], changes[1949])
    assert (one.p <= 0.05) == (one.low > 0 or one.high < 0)


def test_a_system_alone_differs_from_none() -> None:
    assert differences([mean_of(np.arange(3.0))]) == []


def test_a_resample_without_a_difference_is_on_neither_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = np.repeat([0.0, 1.0], [50, NUM_RESAMPLES - 50])
    ones = np.ones(NUM_RESAMPLES)
    sums = np.stack([0 * ones, ones, changes, ones], 1)
    monkeypatch.setattr(significance, "resampled_sums", lambda statistics: sums)
    (found,) = differences([mean_of(np.zeros(2)), mean_of(np.zeros(2))])
    one = found["cider"]
    assert (one.low, one.high, one.p) == (0.0, 1.0, pytest.approx(0.051))
    assert one.verdict("cider") == "no significant difference"


def test_for_some_metrics_smaller_is_better() -> None:
    higher, lower = Difference(2.0, 0.1, 3.0, 0.01), Difference(-2.0, -3.0, -0.1, 0.01)
    assert [one.verdict("cider") for one in (higher, lower)] == ["better", "worse"]
    assert [one.verdict("perplexity") for one in (higher, lower)] == ["worse", "better"]
    nothing = Difference(1.0, 0.0, 3.0, 0.06)
    assert nothing.verdict("cider") == nothing.verdict("perplexity") == "no significant difference"
    endless = [{"perplexity": np.array([[1e6, 1.0]])}] * 2
    assert (
        differences(endless)[0]["perplexity"].verdict("perplexity") == "no significant difference"
    )
