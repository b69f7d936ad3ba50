"""Runs beside each other: what is read, what is refused, what is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.evaluation.metrics.sufficient_stats import combine
from intertitle.training.reports.compare import Comparison, compare
from intertitle.training.reports.evaluations import EvaluatedRun, read_newest
from intertitle.training.tracking.store.client import RunRef
from tests.training.evaluations import captions, log_run, spoiled
from tests.training.metric_names import TRANSLATION_METRICS

SAMPLES = captions(60)
BETTER, WORSE = spoiled(SAMPLES, 0.3, seed=1), spoiled(SAMPLES, 0.7, seed=2)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('runs')}/mlflow.db"


@pytest.fixture(scope="module")
def first(uri: str) -> RunRef:
    return log_run(uri, "first", WORSE, params={"recipe": "s2vt", "dropout": 0.5, "layers": 1})


@pytest.fixture(scope="module")
def second(uri: str) -> RunRef:
    # In another order: examples are told apart by their ids.
    params = {"recipe": "s2vt", "dropout": 0.1, "cell": "gru"}
    return log_run(uri, "second", BETTER[::-1], params=params)


@pytest.fixture(scope="module")
def comparison(first: RunRef, second: RunRef) -> Iterator[Comparison]:
    return compare([read_newest(run, "val") for run in (first, second)])


def test_scores_are_those_that_were_logged(
    comparison: Comparison, first: RunRef, second: RunRef
) -> None:
    assert comparison.runs == ("first", "second")
    assert (comparison.split, comparison.num_examples) == ("val", 60)
    logged = [read_newest(run, "val").record.description["scores"] for run in (first, second)]
    assert tuple(comparison.scores) == TRANSLATION_METRICS
    for name, scores in comparison.scores.items():
        assert scores == pytest.approx([one[name] for one in logged], abs=1e-9)


def test_a_real_difference_is_significant(comparison: Comparison) -> None:
    (against,) = comparison.against_baseline
    for name, one in against.differences.items():
        mine, others = comparison.scores[name]
        assert one.value == pytest.approx(others - mine)
        assert 0 < one.low < one.value < one.high
        assert one.p <= 0.05
        assert one.verdict(name) == "better"


def test_a_run_does_not_differ_from_itself(first: RunRef) -> None:
    measured = read_newest(first, "val")
    (against,) = compare([measured, measured]).against_baseline
    for name, one in against.differences.items():
        assert (one.value, one.low, one.high, one.p) == (0, 0, 0, 1)
        assert one.verdict(name) == "no significant difference"
    assert against.better == against.worse == ()


def test_settings_that_differ_are_listed(comparison: Comparison) -> None:
    assert comparison.settings == {
        "cell": (None, "gru"),
        "dropout": ("0.5", "0.1"),
        "layers": ("1", None),
    }


def test_settings_of_several_stores_are_numbered(first: RunRef) -> None:
    measured = read_newest(first, "val")

    def of_sizes(*sizes: int) -> EvaluatedRun:
        data = measured.record.description["data"] | {"stores": [{"size": n} for n in sizes]}
        return changed(measured, description=measured.record.description | {"data": data})

    assert compare([of_sizes(8, 16), of_sizes(9, 16)]).settings == {
        "measured.data.stores.size": ("8", "9")
    }
    assert compare([of_sizes(8, 16), of_sizes(8, 17)]).settings == {
        "measured.data.stores_2.size": ("16", "17")
    }


def test_the_examples_that_changed_most_come_first(first: RunRef, second: RunRef) -> None:
    runs = [read_newest(run, "val") for run in (first, second)]
    comparison = compare(runs)
    assert comparison.example_metric == "sacrebleu"
    (against,) = comparison.against_baseline
    said = [{sample.id: sample.hypothesis for sample in samples} for samples in (WORSE, BETTER)]
    for changed, sign in ((against.better, 1), (against.worse, -1)):
        assert changed
        sizes = [sign * one.change for one in changed]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] > 0
        for one in changed:
            assert one.hypotheses == (said[0][one.id], said[1][one.id])
            assert one.change == one.scores[1] - one.scores[0]
            assert (one.item_key, len(one.references)) == (one.id.replace("about", "clip"), 3)
    assert len({one.id for one in (*against.better, *against.worse)}) <= 60


def test_rows_of_two_runs_are_aligned_by_id(first: RunRef, second: RunRef) -> None:
    runs = [read_newest(run, "val") for run in (first, second)]
    record = runs[1].record
    order = np.random.default_rng(0).permutation(len(record.ids))
    shuffled = replace(
        record,
        ids=tuple(record.ids[n] for n in order),
        item_keys=tuple(record.item_keys[n] for n in order),
        sources=tuple(record.sources[n] for n in order),
        hypotheses=tuple(record.hypotheses[n] for n in order),
        references=tuple(record.references[n] for n in order),
        statistics={name: rows[order] for name, rows in record.statistics.items()},
    )
    comparison = compare(runs)
    assert compare([runs[0], replace(runs[1], record=shuffled)]) == comparison
    # Each example has the score that its own hypothesis got.
    own = {
        id: combine("sacrebleu", record.statistics["sacrebleu"][n : n + 1])[0]
        for n, id in enumerate(record.ids)
    }
    (against,) = comparison.against_baseline
    for one in (*against.better, *against.worse):
        assert one.scores[1] == pytest.approx(own[one.id])


def test_two_runs_of_one_name_are_told_apart(uri: str, first: RunRef) -> None:
    again = log_run(uri, "first", BETTER)
    labels = compare([read_newest(run, "val") for run in (first, again)]).runs
    assert labels == (f"first ({first.run_id[:8]})", f"first ({again.run_id[:8]})")


def changed(measured: EvaluatedRun, **fields: object) -> EvaluatedRun:
    """The same run with something else in its record, under another name."""
    record = replace(measured.record, **fields)  # type: ignore[arg-type]
    return EvaluatedRun(replace(measured.run, name="other"), measured.params, record)


def test_what_cannot_be_compared_is_refused(first: RunRef) -> None:
    measured = read_newest(first, "val")
    record = measured.record
    ids, references = record.ids, record.references
    signatures = record.description["signatures"] | {"sacrebleu": "lower"}
    for fields, message in (
        (
            {"ids": ("x", "y", *ids[2:])},
            r"run other: scored on other examples of 'val' than first: 2 \(x, y\) are in other "
            "alone; `intertitle evaluate other --split val` measures it again",
        ),
        (
            {"references": (("else",), *references[1:])},
            r"other: scored with other references than first: 1 \(about 0\) differ",
        ),
        ({"sources": ("asked", *record.sources[1:])}, "scored with other references"),
        (
            {"description": record.description | {"signatures": signatures}},
            r"run other: sacrebleu was computed otherwise than in first: 'lower' and 'nrefs:3\|",
        ),
    ):
        with pytest.raises(UserError, match=message):
            compare([measured, changed(measured, **fields)])
    with pytest.raises(UserError, match=r"60 \(about 0, about 1, about 2, \.\.\.\) are in first"):
        few = {name: rows[:0] for name, rows in record.statistics.items()}
        compare([measured, changed(measured, ids=(), statistics=few)])


def test_some_metrics_alone_can_be_compared(first: RunRef) -> None:
    measured = read_newest(first, "val")
    record = measured.record
    without = {name: rows for name, rows in record.statistics.items() if name != "exact_match"}
    signatures = record.description["signatures"] | {"sacrebleu": "lower"}
    with pytest.raises(UserError, match=r"--metric exact_match: not in all .* \['sacrebleu'\]"):
        compare([measured, changed(measured, statistics=without)], ["exact_match"])
    assert compare([measured, changed(measured, statistics=without)]).left_out == {
        "exact_match": "other lacks it"
    }
    told = changed(
        measured,
        statistics=without,
        description=record.description | {"not_measured": {"exact_match": "why"}},
    )
    with pytest.raises(UserError, match=r"exact_match: not in all of the runs \(other: why\)"):
        compare([measured, told], ["exact_match"])
    mine = changed(measured, description=record.description | {"changed": {"tokenizer": "zh"}})
    other = changed(measured, description=record.description | {"signatures": signatures})
    with pytest.raises(UserError, match="evaluate other --split val --tokenizer zh` measures it"):
        compare([mine, other])
    assert tuple(compare([measured, other], ["exact_match"]).scores) == ("exact_match",)
