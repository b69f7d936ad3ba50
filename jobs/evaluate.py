"""`intertitle evaluate`: how good a run's model is on a split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from jobs import console
from jobs.options import (
    Corpus,
    Ensemble,
    Features,
    Json,
    MaxSourceTokens,
    Run,
    TrackingUri,
    with_search,
)
from pipeline.errors import UserError


@with_search
def evaluate(
    run: Run,
    corpus: Corpus = None,
    features: Features = None,
    split: Annotated[str, typer.Option(help="Of the corpus.")] = "val",
    ensemble: Ensemble = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Measure this file instead of sentences of its own: lines of JSON with id and "
            "text, as `predict --split` writes them; the first of each id counts."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of the metrics that count words: auto (by the corpus' language), 13a, intl, "
            "char, zh, ja-mecab, ko-mecab, flores101 or flores200; default: the recipe's.",
        ),
    ] = None,
    max_source_tokens: MaxSourceTokens = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
    *,
    search: dict[str, Any],
) -> None:
    """Search sentences for a whole split, score them, and add the scores to the run."""
    from training.evaluation.tokens import AUTO, TOKENIZERS
    from training.judging import evaluate_predictions
    from training.predictions import read_predictions
    from training.scoring import evaluate_run
    from training.tracking.run import default_tracking_uri, resolve_run

    if tokenizer is not None and tokenizer not in (AUTO, *TOKENIZERS):
        allowed = ", ".join((AUTO, *TOKENIZERS))
        raise UserError(f"--tokenizer: {tokenizer!r}, allowed: {allowed}")
    uri = tracking_uri or default_tracking_uri()
    ref = resolve_run(run, uri)
    others = [resolve_run(other, uri) for other in ensemble or ()]
    if predictions is not None:
        if others or any(one is not None for one in search.values()):
            raise UserError(
                f"--predictions {predictions}: not with --ensemble or options of a search"
            )
        if max_source_tokens is not None:
            raise UserError(f"--predictions {predictions}: not with --max-source-tokens")
    measured = " + ".join(one.name for one in (ref, *others))
    with console.ERRORS.status(escape(f"evaluating {measured} on {split}")):
        if predictions is not None:
            measured, told = predictions.name, read_predictions(predictions, scored=False)
            evaluation = evaluate_predictions(
                ref,
                told,
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
                ensemble=others,
                tokenizer=tokenizer,
                max_source_tokens=max_source_tokens,
                **search,
            )
    scores = evaluation.scores.values
    not_measured, warnings = evaluation.scores.not_measured, evaluation.scores.warnings
    title = f"{measured} on {split}: measured on {evaluation.num_examples:,}"
    console.scores(title, scores)
    console.caveats(not_measured, warnings)
    if evaluation.num_left_out:
        console.say(f"{evaluation.num_left_out} examples left out: quarantined items")
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
