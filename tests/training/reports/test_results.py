"""Tables of runs that differ in their seed, and their page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.record import read_record, write_record
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.reports.evaluations import EvaluatedRun
from intertitle.training.reports.results import ResultRow, ResultsTable
from intertitle.training.reports.results_page import NUM_BEST, NUM_RANDOM, NUM_WORST, choose, render
from intertitle.training.tracking.store.client import RunRef
from tests.training.evaluations import captions, spoiled
from tests.training.metric_names import TRANSLATION_METRICS


def measured(folder: Path, samples: list[Sample]) -> EvaluatedRun:
    scores = Scorer("caption", [s.references for s in samples]).score(
        [s.hypothesis for s in samples], TRANSLATION_METRICS
    )
    how = {
        "data": {"corpus": "nowhere"},
        "scores": scores.values,
        "signatures": scores.signatures,
    }
    folder.mkdir()
    write_record(folder, Evaluation("val", tuple(samples), len(samples), 0, scores), how)
    return EvaluatedRun(RunRef("id", folder.name, ""), {}, read_record(folder))


def test_a_cell_has_the_mean_and_range_of_the_seeds(tmp_path: Path) -> None:
    one = measured(tmp_path / "one", captions(40))
    other = measured(tmp_path / "other", spoiled(captions(40), 0.3))
    low, high = sorted(m.record.description["scores"]["sacrebleu"] for m in (one, other))
    results = ResultsTable(
        "Table",
        ("sacrebleu",),
        (
            ResultRow("two", {"sacrebleu": 26.17}, (one, other)),
            ResultRow("one", {}, (one,)),
            ResultRow("none", {}, ()),
        ),
    )
    assert results.to_markdown() == (
        "|  | seeds | sacrebleu | sacrebleu published |\n"
        "| --- | --- | --- | --- |\n"
        f"| two | 2 | {(low + high) / 2:.2f} ({low:.2f}–{high:.2f}) | 26.17 |\n"
        f"| one | 1 | {high:.2f} |  |\n"
        "| none | 0 | – |  |\n"
    )
    assert results.signatures() == [one.record.description["signatures"]["sacrebleu"]]


def test_small_figures_have_a_digit_more(tmp_path: Path) -> None:
    one = measured(tmp_path / "one", captions(40))
    one.record.description["scores"] = {"cider": 0.54667, "meteor": 20.3528}
    row = ResultRow("one", {}, (one,))
    assert [row.text("cider"), row.text("meteor")] == ["0.547", "20.35"]


def test_a_mean_over_fewer_seeds_than_the_row_has_says_so(tmp_path: Path) -> None:
    runs = [measured(tmp_path / name, captions(20)) for name in "abc"]
    for one, scores in zip(runs, ({"cider": 0.5, "bleu_4": 20.0}, {"cider": 0.7}, {}), strict=True):
        one.record.description["scores"] = scores
    row = ResultRow("three", {}, tuple(runs))
    assert row.text("cider") == "0.600 (0.500–0.700) of 2"
    assert row.text("bleu_4") == "20.00 of 1"
    assert row.text("meteor") == "–"
    table = ResultsTable("Table", ("cider",), (ResultRow("a | b", {}, ()),)).to_markdown()
    assert r"| a \| b | 0 | – |" in table


def test_twenty_are_shown_and_whose_fault_they_are(tmp_path: Path) -> None:
    told = spoiled(captions(60), 0.4)
    samples = [
        Sample(s.id, s.item_key, s.source, s.hypothesis, s.references, -1.0, -0.5 if n % 2 else -2)
        for n, s in enumerate(told)
    ]
    one = measured(tmp_path / "one", samples)
    metric, shown = choose(one.record)
    assert metric == "sacrebleu"
    kinds = [each.kind for each in shown]
    assert {k: kinds.count(k) for k in set(kinds)} == {
        "best": NUM_BEST,
        "worst": NUM_WORST,
        "random": NUM_RANDOM,
    }
    assert len({each.id for each in shown}) == len(shown) == 20
    best, worst = ([s.score for s in shown if s.kind == kind] for kind in ("best", "worst"))
    assert best == sorted(best, reverse=True) and worst == sorted(worst)
    assert best[-1] >= worst[-1]
    by_id = {s.id: s for s in samples}
    for each in shown:
        sample = by_id[each.id]
        if sample.hypothesis in sample.references:
            assert each.error_cause == ""
        else:
            missed = sample.reference_score == -0.5
            assert each.error_cause == ("search error" if missed else "model error")

    page = render(
        ResultsTable("A <b> table", ("sacrebleu",), (ResultRow("it & they", {}, (one,)),)),
        lambda corpus, keys: {next(iter(keys)): b"jpeg"},
        {"it & they": [(1, "ROMEO:\nah <me>")]},
    )
    assert "A &lt;b&gt; table" in page and "it &amp; they" in page
    assert page.count("<article") == 21 and page.count("<img") == 1
    assert "ah &lt;me&gt;" in page


def test_of_few_each_is_shown_once(tmp_path: Path) -> None:
    one = measured(tmp_path / "one", captions(9))
    _, shown = choose(one.record)
    assert sorted(each.id for each in shown) == sorted(one.record.ids)


def test_without_predictions_no_examples_are_shown(tmp_path: Path) -> None:
    one = measured(tmp_path / "one", captions(3))
    silent = one.record.__class__(
        one.record.description,
        one.record.ids,
        one.record.item_keys,
        one.record.sources,
        ("", "", ""),
        one.record.references,
        one.record.scores,
        one.record.reference_scores,
        {"nats_per_token": np.ones((3, 2))},
    )
    assert choose(silent) == ("nats_per_token", [])
