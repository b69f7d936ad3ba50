"""`intertitle compare`: compare the evaluations of runs on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.options import Json, TrackingUri, check_page
from intertitle.jobs.tracking import find_run, tracking_store
from intertitle.pipeline.errors import UserError

if TYPE_CHECKING:
    from intertitle.training.reports.compare import BaselineComparison, ChangedExample, Comparison
    from intertitle.training.tracking.store.client import RunRef

NUM_SHOWN = 3


def compare_runs(
    runs: Annotated[
        list[str], typer.Argument(help="Ids or names of the runs; each is compared with the first.")
    ],
    split: Annotated[str, typer.Option(help="Split of the corpus.")] = "val",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric to compare; may be repeated; default: all that every run has."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="HTML file to write, with examples.")
    ] = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Compare runs: which are better, by how much, and on which examples.

    The newest evaluation of each run on the split is used.
    """
    check_page("--out", out)
    if len({*runs}) < max(2, len(runs)):
        raise UserError(f"compare: {' '.join(runs)}: two different runs or more are needed")
    uri = tracking_store(tracking_uri)
    refs = [find_run(run, uri) for run in runs]
    if len({ref.run_id for ref in refs}) < max(2, len(refs)):
        raise UserError(f"compare: {' '.join(runs)}: two different runs or more are needed")
    with console.step("comparing"):
        from intertitle.training.reports.compare import compare
        from intertitle.training.reports.evaluations import read_newest

        comparison = compare([read_newest(ref, split) for ref in refs], metric or ())
        if out is not None:
            _write_page(comparison, refs, out)
    _show(comparison)
    if out is not None:
        console.echo(f"\nthe page: {out}")
    if json:
        console.result(
            {
                "split": comparison.split,
                "num_examples": comparison.num_examples,
                "runs": [
                    {
                        "run_id": ref.run_id,
                        "name": name,
                        "metrics": {key: row[n] for key, row in comparison.scores.items()},
                    }
                    for n, (ref, name) in enumerate(zip(refs, comparison.runs, strict=True))
                ],
                "against_first": {
                    against.run: {
                        name: asdict(difference) | {"verdict": difference.verdict(name)}
                        for name, difference in against.differences.items()
                    }
                    for against in comparison.against_baseline
                },
                "left_out": comparison.left_out,
                "settings": comparison.settings,
            }
        )


def _write_page(comparison: Comparison, refs: Sequence[RunRef], out: Path) -> None:
    from intertitle.pipeline.corpus import Corpus
    from intertitle.training.data.item_views import thumbnails_of
    from intertitle.training.reports.comparison_page import render
    from intertitle.training.tracking.store.run_list import run_url

    changed = [example for a in comparison.against_baseline for example in (*a.better, *a.worse)]
    keys = {example.item_key for example in changed if example.item_key is not None}
    try:
        thumbnails = thumbnails_of(Corpus(comparison.corpus), keys) if keys else {}
    except (UserError, OSError) as error:
        # The page is written without thumbnails.
        console.note(f"no pictures: {error}")
        thumbnails = {}
    urls = {name: run_url(ref) for name, ref in zip(comparison.runs, refs, strict=True)}
    links = {name: url for name, url in urls.items() if url is not None}
    out.write_text(render(comparison, thumbnails, links), "utf-8")


def _show(comparison: Comparison) -> None:
    first, *_ = comparison.runs
    console.table(
        f"{comparison.num_examples:,} examples of {comparison.split}",
        ("metric", *comparison.runs),
        [(name, *scores) for name, scores in comparison.scores.items()],
    )
    for name, reason in comparison.left_out.items():
        console.echo(f"not compared: {name}: {reason}")
    for against in comparison.against_baseline:
        console.table(
            f"{against.run} against {first}, with the 95 % interval of a paired bootstrap",
            ("metric", "difference", "from", "to", "p", against.run),
            [
                (name, diff.value, diff.low, diff.high, f"{diff.p:.3f}", diff.verdict(name))
                for name, diff in against.differences.items()
            ],
        )
    if comparison.settings:
        console.table(
            "settings that differ",
            ("setting", *comparison.runs),
            [
                (key, *("–" if value is None else value for value in row))
                for key, row in comparison.settings.items()
            ],
        )
    for against in comparison.against_baseline:
        _show_examples(comparison, against, "better", against.better)
        _show_examples(comparison, against, "worse", against.worse)


def _show_examples(
    comparison: Comparison,
    against: BaselineComparison,
    words: str,
    examples: tuple[ChangedExample, ...],
) -> None:
    if examples:
        console.table(
            f"where {against.run} is {words} by {comparison.example_metric}",
            ("example", comparison.runs[0], against.run, "reference"),
            [(ex.id, *ex.hypotheses, ex.references[0]) for ex in examples[:NUM_SHOWN]],
        )
