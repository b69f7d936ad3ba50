"""`intertitle table`: many trainings, measured alike, as one table and one page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import console
from jobs.cluster import cluster
from jobs.options import Address, Json, TrackingUri
from pipeline.errors import UserError

if TYPE_CHECKING:
    from training.tracking.results import Results

# Epochs whose running text a page shows.
NUM_EPOCHS_SHOWN = 4


def make_table(
    name: Annotated[
        str, typer.Argument(help="A table of the project, or the path of a .toml file.")
    ],
    data: Annotated[Path, typer.Option(help="The folder in which the published data lies.")] = Path(
        "data"
    ),
    work: Annotated[
        Path, typer.Option(help="A folder for corpora, features and checkpoints.")
    ] = Path("tables"),
    train: Annotated[
        bool,
        typer.Option(help="Train what is missing; --no-train measures the runs that are there."),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An HTML page with twenty outputs of each row to write."),
    ] = None,
    tracking_uri: TrackingUri = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Train what a table lacks, measure it, and print the table; a call again goes on."""
    from jobs.tables.build import Workshop
    from jobs.tables.config import load_table
    from training.tracking.run import default_tracking_uri

    if out is not None and out.suffix not in (".html", ".htm"):
        raise UserError(f"--out {out}: a page of HTML, allowed: a name that ends in .html")
    config = load_table(name)
    with ExitStack() as stack:
        results = Workshop(
            config,
            data.absolute(),
            work.absolute(),
            tracking_uri or default_tracking_uri(),
            may_train=train,
            start_ray=lambda: stack.enter_context(cluster(address)),
            on_step=lambda step: console.ERRORS.print(step, markup=False, soft_wrap=True),
        ).results()
    console.say(f"{results.title}\n")
    console.say(results.to_markdown())
    for signature in results.signatures():
        console.say(signature)
    if out is not None:
        _write_page(results, out)
        console.say(f"\nthe page: {out}")
    if json:
        console.result(
            {
                "title": results.title,
                "rows": [
                    {
                        "label": row.label,
                        "runs": [one.run.run_id for one in row.measured],
                        "metrics": {metric: row.values(metric) for metric in results.metrics},
                    }
                    for row in results.rows
                ],
            }
        )


def _write_page(results: Results, out: Path) -> None:
    from training.data.source import pictures_of
    from training.experiment import texts_by_epoch
    from training.tracking.results_page import render

    def pictures(corpus: str, keys: Collection[str]) -> Mapping[str, bytes]:
        try:
            return pictures_of(corpus, keys)
        except (UserError, OSError) as error:
            console.ERRORS.print(f"no pictures: {error}", markup=False, soft_wrap=True)
            return {}

    written = {}
    for row in results.rows:
        if row.measured and not any(row.measured[0].record.hypotheses):
            texts = texts_by_epoch(row.measured[0].run)
            apart = max(1, (len(texts) - 1) // (NUM_EPOCHS_SHOWN - 1))
            written[row.label] = texts[:-1][::apart][: NUM_EPOCHS_SHOWN - 1] + texts[-1:]
    out.write_text(render(results, pictures, written), "utf-8")
