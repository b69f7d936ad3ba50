"""`intertitle predict`: an answer to what no corpus holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import console
from jobs.options import (
    Beam,
    CoveragePenalty,
    Ensemble,
    Json,
    LengthPenalty,
    MaxTokens,
    MinTokens,
    NoRepeatNgram,
    Prefix,
    Run,
    Sampled,
    Seed,
    Temperature,
    TopK,
    TopP,
    TrackingUri,
    method_of,
)
from pipeline.errors import UserError


def predict(
    run: Run,
    files: Annotated[list[Path] | None, typer.Argument(help="Videos and images.")] = None,
    text: Annotated[str | None, typer.Option(help="A sentence to translate or classify.")] = None,
    question: Annotated[str | None, typer.Option(help="About the files.")] = None,
    ensemble: Ensemble = None,
    beam: Beam = None,
    length_penalty: LengthPenalty = None,
    coverage_penalty: CoveragePenalty = None,
    min_tokens: MinTokens = None,
    max_tokens: MaxTokens = None,
    no_repeat_ngram: NoRepeatNgram = None,
    prefix: Prefix = None,
    sample: Sampled = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Say what files show, answer a question about them, translate or classify a text."""
    from training.prediction import predict as tell
    from training.scoring import load_together
    from training.tracking.run import default_tracking_uri, resolve_run

    if text is not None and question is not None:
        raise UserError("--text, --question: one of the two")
    uri = tracking_uri or default_tracking_uri()
    trained = load_together([resolve_run(name, uri) for name in (run, *(ensemble or ()))])
    trained = trained.searching(
        method=method_of(sample, temperature, top_k, top_p),
        beam_size=beam,
        length_penalty=length_penalty,
        coverage_penalty=coverage_penalty,
        min_tokens=min_tokens,
        max_tokens=max_tokens,
        no_repeat_ngram=no_repeat_ngram,
        prefix=prefix,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    with console.bar("predicting") as bar:
        told = tell(
            trained,
            files or [],
            question if text is None else text,
            on_progress=bar.update,
        )
    for one in told:
        console.say(f"{one.input}: {one.text}" if one.input else f"{one.text}\n")
    if json:
        console.result(
            {"results": [{"input": p.input, "text": p.text, "score": p.score} for p in told]}
        )
