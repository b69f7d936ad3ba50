"""Names, captions and keys with markup are text on every page, wherever they stand."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np

from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.evaluation.significance import Difference
from intertitle.training.reports import comparison_page, results_page
from intertitle.training.reports.compare import BaselineComparison, ChangedExample, Comparison
from intertitle.training.reports.evaluations import EvaluatedRun
from intertitle.training.reports.results import ResultRow, ResultsTable
from intertitle.training.tracking.html import as_markdown
from intertitle.training.tracking.store.client import RunRef

HOSTILE = (
    """<script>alert("{}")</script><img src=x onerror='alert(1)'>" onclick="alert(2)" & <b>{}"""
)


class Tags(HTMLParser):
    """Collects what a browser would take for a tag or an attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def hostile(name: str) -> str:
    return HOSTILE.format(name, name)


def check(page: str, names: list[str]) -> None:
    """Make sure that each name is on a page, and none of them is markup."""
    found = Tags(page)
    assert found.tags.count("script") == 1
    assert not {"onerror", "onclick"} & found.attributes
    # Words that differ are marked.
    page = page.replace("<mark>", "").replace("</mark>", "")
    assert "src=x" not in page.replace("&lt;img src=x onerror=&#39;", "")
    for name in names:
        assert f"alert(&#34;{name}&#34;)" in page, name


def test_a_comparison() -> None:
    names = ("id", "key", "source", "reference", "one", "other", "first", "second")
    id, key, source, reference, one, other, first, second = map(hostile, names)
    changed = ChangedExample(id, key, source, (reference,), (one, other), (1.0, 2.0), 1.0)
    comparison = Comparison(
        split=hostile("split"),
        corpus="corpus",
        num_examples=1,
        runs=(first, second),
        scores={"bleu_4": (1.0, 2.0)},
        signatures={"bleu_4": hostile("signature")},
        settings={hostile("setting"): (hostile("value"), None)},
        left_out={"meteor": hostile("reason")},
        example_metric="bleu_4",
        against_baseline=(
            BaselineComparison(second, {"bleu_4": Difference(1.0, 0.5, 1.5, 0.01)}, (changed,), ()),
        ),
    )
    page = comparison_page.render(comparison, {key: b"jpeg"})
    told = ["split", "signature", "setting", "value", "reason"]
    check(page, [*names, *told])


def test_a_table_of_results() -> None:
    names = ("id", "key", "source", "hypothesis", "reference")
    id, key, source, hypothesis, reference = map(hostile, names)
    record = EvaluationRecord(
        {
            "data": {"corpus": "corpus"},
            "scores": {"accuracy": 1.0},
            "signatures": {"accuracy": hostile("signature")},
        },
        (id,),
        (key,),
        (source,),
        (hypothesis,),
        ((reference,),),
        np.zeros(1),
        np.full(1, np.nan),
        {"accuracy": np.ones((1, 2))},
    )
    run = RunRef("1", hostile("run"), "sqlite:///none")
    row = ResultRow(hostile("label"), {}, (EvaluatedRun(run, {}, record),))
    results = ResultsTable(hostile("title"), ("accuracy", hostile("metric")), (row,))
    page = results_page.render(
        results, lambda corpus, keys: {key: b"jpeg"}, {row.label: [(1, hostile("text"))]}
    )
    check(page, [*names, "signature", "title", "metric", "label", "text"])
    written = replace(record, hypotheses=("",))
    silent = ResultRow(row.label, {}, (EvaluatedRun(run, {}, written),))
    check(results_page.render(replace(results, rows=(silent,)), lambda *_: {}, {}), ["label"])


def test_what_mlflow_shows_as_markdown() -> None:
    shown = as_markdown("<b>[a](javascript:x)</b> `c` *d* _e_")
    assert shown == r"&lt;b&gt;\[a\](javascript:x)&lt;/b&gt; \`c\` \*d\* \_e\_"
