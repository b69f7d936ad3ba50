"""`intertitle report`: write a page of one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.options import Json, Run, TrackingUri, check_page
from intertitle.jobs.tracking import find_run, tracking_store
from intertitle.pipeline.errors import UserError

if TYPE_CHECKING:
    from intertitle.training.reports.evaluations import EvaluatedRun


def report(
    run: Run,
    split: Annotated[str, typer.Option(help="Split of the evaluation to show.")] = "val",
    out: Annotated[Path, typer.Option(metavar="FILE", help="HTML file to write.")] = Path(
        "report.html"
    ),
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Write a page of a run: its scores, curves, and its best and worst examples.

    The newest evaluation of the run on the split is used.
    """
    check_page("--out", out)
    ref = find_run(run, tracking_store(tracking_uri))
    with console.step("reading the evaluation"):
        from intertitle.training.reports.evaluations import read_newest
        from intertitle.training.reports.run_report.page import render
        from intertitle.training.tracking.store.client import read_artifact

        evaluated = read_newest(ref, split)
        page = render(evaluated, _pictures(evaluated), read_artifact(ref, "learning_curves.png"))
    out.write_text(page, "utf-8")
    console.echo(f"the page: {out}")
    if json:
        console.result({"run_id": ref.run_id, "split": split, "out": str(out)})


def _pictures(evaluated: EvaluatedRun) -> dict[str, bytes]:
    """Return the thumbnails of the examples; none if the corpus can't be read."""
    from intertitle.pipeline.corpus import Corpus
    from intertitle.training.data.item_views import thumbnails_of
    from intertitle.training.reports.run_report.page import shown_items

    keys = shown_items(evaluated)
    try:
        corpus = str(evaluated.record.description["data"]["corpus"])
        return dict(thumbnails_of(Corpus(corpus), keys)) if keys else {}
    except (UserError, OSError) as error:
        console.note(f"no pictures: {error}")
        return {}
