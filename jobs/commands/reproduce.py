"""`intertitle reproduce`: train and evaluate the models of a published results table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.cluster.session import cluster
from intertitle.jobs.options import Address, Json, TrackingUri, check_page
from intertitle.jobs.tracking import tracking_store
from intertitle.pipeline.errors import UserError

if TYPE_CHECKING:
    from intertitle.training.reports.results import ResultsTable

# Number of epochs for which the page shows sampled text.
NUM_EPOCHS_SHOWN = 4


def make_table(
    name: Annotated[
        str, typer.Argument(help="Name of a table of the project, or path of a .toml file.")
    ],
    data: Annotated[Path, typer.Option(help="Folder that contains the published data.")] = Path(
        "data"
    ),
    work: Annotated[
        Path, typer.Option(help="Folder for corpora, features and checkpoints.")
    ] = Path("tables"),
    train: Annotated[
        bool,
        typer.Option(help="Train missing models; --no-train only evaluates existing runs."),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="HTML file to write, with twenty outputs of each row."),
    ] = None,
    tracking_uri: TrackingUri = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Train the missing models of a table, evaluate them, and print the table.

    A repeated call continues where the last one stopped.
    """
    from intertitle.jobs.reproduce.config import load_table

    check_page("--out", out)
    config = load_table(name)
    with console.step("loading PyTorch and Ray"):
        from intertitle.jobs.reproduce.runner import ReproductionRunner
    with ExitStack() as stack:
        results = ReproductionRunner(
            config,
            data.absolute(),
            work.absolute(),
            tracking_store(tracking_uri),
            may_train=train,
            start_ray=lambda: stack.enter_context(cluster(address)),
            on_step=console.note,
        ).results()
    console.echo(f"{results.title}\n")
    console.echo(results.to_markdown())
    for signature in results.signatures():
        console.echo(signature)
    if out is not None:
        _write_page(results, out)
        console.echo(f"\nthe page: {out}")
    if json:
        console.result(
            {
                "title": results.title,
                "rows": [
                    {
                        "label": row.label,
                        "runs": [evaluated.run.run_id for evaluated in row.measured],
                        "metrics": {metric: row.values(metric) for metric in results.metrics},
                    }
                    for row in results.rows
                ],
            }
        )


def _write_page(results: ResultsTable, out: Path) -> None:
    from intertitle.pipeline.corpus import Corpus
    from intertitle.training.data.item_views import thumbnails_of
    from intertitle.training.reports.results_page import render
    from intertitle.training.runs.fit_run import texts_by_epoch

    def pictures(corpus: str, keys: Collection[str]) -> Mapping[str, bytes]:
        try:
            return thumbnails_of(Corpus(corpus), keys)
        except (UserError, OSError) as error:
            console.note(f"no pictures: {error}")
            return {}

    written = {}
    for row in results.rows:
        if row.measured and not any(row.measured[0].record.hypotheses):
            texts = texts_by_epoch(row.measured[0].run)
            step = max(1, (len(texts) - 1) // (NUM_EPOCHS_SHOWN - 1))
            written[row.label] = texts[:-1][::step][: NUM_EPOCHS_SHOWN - 1] + texts[-1:]
    out.write_text(render(results, pictures, written), "utf-8")
