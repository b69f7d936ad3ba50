"""`intertitle compare`: runs beside each other on the same examples."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import console
from jobs.options import Json, TrackingUri
from pipeline.errors import UserError

if TYPE_CHECKING:
    from training.tracking.compare import AgainstFirst, Changed, Comparison

NUM_SHOWN = 3


def compare_runs(
    runs: Annotated[
        list[str], typer.Argument(help="Ids or names of runs; each is set against the first.")
    ],
    split: Annotated[str, typer.Option(help="Of the corpus.")] = "val",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A metric to compare; may be repeated. Default: all that all runs have."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An HTML page with examples to write.")
    ] = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Tell which runs are better, by how much, and on which examples.

    Reads each run's newest evaluation on the split.
    """
    from training.tracking.compare import compare, read_newest
    from training.tracking.run import default_tracking_uri, resolve_run

    if out is not None and out.suffix not in (".html", ".htm"):
        raise UserError(f"--out {out}: a page of HTML, allowed: a name that ends in .html")
    uri = tracking_uri or default_tracking_uri()
    refs = [resolve_run(run, uri) for run in runs]
    if len({ref.run_id for ref in refs}) < max(2, len(refs)):
        raise UserError(f"compare: {' '.join(runs)}: two different runs or more are needed")
    with console.ERRORS.status("comparing"):
        comparison = compare([read_newest(ref, split) for ref in refs], metric or ())
        if out is not None:
            _write_page(comparison, out)
    _show(comparison)
    if out is not None:
        console.say(f"\nthe page: {out}")
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
                        name: asdict(one) | {"verdict": one.verdict(name)}
                        for name, one in against.differences.items()
                    }
                    for against in comparison.against_first
                },
                "left_out": comparison.left_out,
                "settings": comparison.settings,
            }
        )


def _write_page(comparison: Comparison, out: Path) -> None:
    from training.data.source import pictures_of
    from training.tracking.comparison_page import render

    changed = [one for a in comparison.against_first for one in (*a.better, *a.worse)]
    keys = {one.item_key for one in changed if one.item_key is not None}
    try:
        pictures = pictures_of(comparison.corpus, keys) if keys else {}
    except (UserError, OSError) as error:
        # What the runs say is told without them.
        console.ERRORS.print(f"no pictures: {error}", markup=False, soft_wrap=True)
        pictures = {}
    out.write_text(render(comparison, pictures), "utf-8")


def _show(comparison: Comparison) -> None:
    first, *_ = comparison.runs
    console.table(
        f"{comparison.num_examples:,} examples of {comparison.split}",
        ("metric", *comparison.runs),
        [(name, *scores) for name, scores in comparison.scores.items()],
    )
    for name, why in comparison.left_out.items():
        console.say(f"not compared: {name}: {why}")
    for against in comparison.against_first:
        console.table(
            f"{against.run} against {first}, with the 95 % interval of a paired bootstrap",
            ("metric", "difference", "from", "to", "p", against.run),
            [
                (name, one.value, one.low, one.high, f"{one.p:.3f}", one.verdict(name))
                for name, one in against.differences.items()
            ],
        )
    if comparison.settings:
        console.table(
            "what differs in the settings",
            ("setting", *comparison.runs),
            [
                (key, *("–" if value is None else value for value in row))
                for key, row in comparison.settings.items()
            ],
        )
    for against in comparison.against_first:
        _show_examples(comparison, against, "better", against.better)
        _show_examples(comparison, against, "worse", against.worse)


def _show_examples(
    comparison: Comparison, against: AgainstFirst, words: str, examples: tuple[Changed, ...]
) -> None:
    if examples:
        console.table(
            f"where {against.run} is {words} by {comparison.example_metric}",
            ("example", comparison.runs[0], against.run, "people"),
            [(one.id, *one.hypotheses, one.references[0]) for one in examples[:NUM_SHOWN]],
        )
