"""`intertitle predict`: a sentence for a video or a photograph that no corpus holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import console
from jobs.options import Beam, Json, Run, TrackingUri


def predict(
    run: Run,
    files: Annotated[list[Path], typer.Argument(help="Videos and images.")],
    beam: Beam = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Say what files show, with a run's model."""
    from training.captioning import caption_files
    from training.experiment import load_trained
    from training.tracking.run import default_tracking_uri, resolve_run

    trained = load_trained(resolve_run(run, tracking_uri or default_tracking_uri()))
    with console.bar("captioning") as bar:
        captions = caption_files(trained, files, beam, bar.update)
    for caption in captions:
        console.say(f"{caption.file}: {caption.text}")
    if json:
        console.result(
            {
                "results": [
                    {"input": str(c.file), "text": c.text, "score": c.score} for c in captions
                ]
            }
        )
