"""`intertitle predict`: an answer to what no corpus holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import console
from jobs.options import Beam, Json, Run, TrackingUri
from pipeline.errors import UserError


def predict(
    run: Run,
    files: Annotated[list[Path] | None, typer.Argument(help="Videos and images.")] = None,
    text: Annotated[str | None, typer.Option(help="A sentence to translate or classify.")] = None,
    question: Annotated[str | None, typer.Option(help="About the files.")] = None,
    beam: Beam = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Say what files show, answer a question about them, translate or classify a text."""
    from training.prediction import predict as tell
    from training.scoring import load_trained
    from training.tracking.run import default_tracking_uri, resolve_run

    if text is not None and question is not None:
        raise UserError("--text, --question: one of the two")
    trained = load_trained(resolve_run(run, tracking_uri or default_tracking_uri()))
    with console.bar("predicting") as bar:
        told = tell(
            trained,
            files or [],
            question if text is None else text,
            beam_size=beam,
            on_progress=bar.update,
        )
    for one in told:
        console.say(f"{one.input}: {one.text}" if one.input else f"{one.text}\n")
    if json:
        console.result(
            {"results": [{"input": p.input, "text": p.text, "score": p.score} for p in told]}
        )
