"""`intertitle evaluate`: evaluate a run's model on a split of a corpus."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from intertitle.jobs import console
from intertitle.jobs.commands.train import describe
from intertitle.jobs.options import (
    Corpus,
    Ensemble,
    Features,
    Json,
    MaxSourceTokens,
    Run,
    TrackingUri,
    with_search,
)
from intertitle.jobs.progress import show_phase
from intertitle.jobs.tracking import tracking_store
from intertitle.pipeline.errors import UserError


@with_search
def evaluate(
    run: Run,
    corpus: Corpus = None,
    features: Features = None,
    split: Annotated[str, typer.Option(help="Split of the corpus.")] = "val",
    ensemble: Ensemble = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Score this file instead of generating predictions: JSON lines with id and text, "
            "as written by `predict --split`; the first prediction of each id counts."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Tokenizer of the metrics that count words: auto (by the corpus' language), 13a, "
            "intl, char, zh, ja-mecab, ko-mecab, flores101 or flores200; default: the recipe's.",
        ),
    ] = None,
    max_source_tokens: MaxSourceTokens = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
    *,
    search: dict[str, Any],
) -> None:
    """Generate predictions for a split, score them, and log the scores to the run."""
    from intertitle.training.evaluation.metrics.metric_tokenizer import AUTO, TOKENIZERS
    from intertitle.training.tracking.store.client import resolve_run

    if tokenizer is not None and tokenizer not in (AUTO, *TOKENIZERS):
        allowed = ", ".join((AUTO, *TOKENIZERS))
        raise UserError(f"--tokenizer: {tokenizer!r}, allowed: {allowed}")
    if predictions is not None:
        if ensemble or any(item is not None for item in search.values()):
            raise UserError(
                f"--predictions {predictions}: not with --ensemble or options of a search"
            )
        if max_source_tokens is not None:
            raise UserError(f"--predictions {predictions}: not with --max-source-tokens")
        if not predictions.is_file():
            raise UserError(f"--predictions {predictions}: no such file")
    uri = tracking_store(tracking_uri)
    ref = resolve_run(run, uri)
    members = [resolve_run(name, uri) for name in ensemble or ()]
    with console.step("loading PyTorch"):
        from intertitle.training.inference.prediction_io import read_predictions
        from intertitle.training.runs.evaluate_run import evaluate_run
        from intertitle.training.runs.score_predictions import score_predictions
    measured = " + ".join(item.name for item in (ref, *members))
    with console.bar(f"evaluating {measured} on {split}", counts=False) as bar:
        if predictions is not None:
            measured, loaded = predictions.name, read_predictions(predictions, scored=False)
            evaluation = score_predictions(
                ref,
                loaded,
                measured,
                split=split,
                corpus=corpus,
                features=features,
                tokenizer=tokenizer,
            )
        else:
            evaluation = evaluate_run(
                ref,
                split=split,
                corpus=corpus,
                features=features,
                ensemble=members,
                tokenizer=tokenizer,
                max_source_tokens=max_source_tokens,
                on_phase=partial(show_phase, bar),
                **search,
            )
    scores = evaluation.scores.values
    not_measured, warnings = evaluation.scores.not_measured, evaluation.scores.warnings
    console.scores(f"{measured}: measured on {describe(evaluation)}", scores)
    console.caveats(not_measured, warnings)
    if evaluation.num_left_out:
        console.echo(f"{evaluation.num_left_out} examples left out: quarantined items")
    if json:
        console.result(
            {
                "run_id": ref.run_id,
                "split": split,
                "num_examples": evaluation.num_examples,
                "metrics": scores,
                "not_measured": not_measured,
                "warnings": list(warnings),
            }
        )
