"""`intertitle evaluate`: evaluate a run's model on a split of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from intertitle.jobs.tracking import find_run, tracking_store
from intertitle.pipeline.errors import UserError

if TYPE_CHECKING:
    from intertitle.training.evaluation.confusion import Confusion
    from intertitle.training.evaluation.slices import Slice

# Labels whose scores are printed, at most.
SHOWN_LABELS = 20


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
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SLICE",
            help="Score the parts of the split, too, with intervals: by length, source_length, "
            "kind, label, or FILE:COLUMN, a CSV or Parquet table with a column id (of examples) or "
            "key (of items); may be repeated.",
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
    *,
    search: dict[str, Any],
) -> None:
    """Generate predictions for a split, score them, and log the scores to the run."""
    from intertitle.training.evaluation.metrics.metric_tokenizer import AUTO, TOKENIZERS
    from intertitle.training.evaluation.slices import check_slices

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
    check_slices(by or ())
    uri = tracking_store(tracking_uri)
    ref = find_run(run, uri)
    members = [find_run(name, uri) for name in ensemble or ()]
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
                by=by or (),
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
                by=by or (),
                **search,
            )
    scores = evaluation.scores.values
    not_measured, warnings = evaluation.scores.not_measured, evaluation.scores.warnings
    console.scores(f"{measured}: measured on {describe(evaluation)}", scores)
    console.caveats(not_measured, warnings)
    _print_labels(evaluation.confusion)
    _print_slices(evaluation.slices)
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
                "labels": [asdict(s) for s in evaluation.confusion.labels]
                if evaluation.confusion
                else None,
                "slices": [asdict(part) for part in evaluation.slices],
            }
        )


def _print_labels(confusion: Confusion | None) -> None:
    """Print the scores of the most frequent labels."""
    if confusion is None:
        return
    frequent = confusion.labels[:SHOWN_LABELS]
    rows = [(s.label, s.support, s.precision, s.recall, s.f1) for s in frequent]
    num_more = len(confusion.labels) - len(frequent)
    more = f", {num_more} more in the run" if num_more else ""
    title = f"labels: mean F1 {confusion.macro_f1:.2f}{more}"
    console.table(title, ("label", "number", "precision", "recall", "F1"), rows)


def _print_slices(slices: Sequence[Slice]) -> None:
    """Print a table for each slicing, with the score and its 95 % interval by metric."""
    for by in dict.fromkeys(part.by for part in slices):
        parts = [part for part in slices if part.by == by]
        rows = [
            (part.value, part.num_examples, name, s.value, f"{s.low:.2f} to {s.high:.2f}")
            for name in parts[0].scores
            for part in parts
            for s in [part.scores[name]]
        ]
        console.table(f"by {by}", (by, "examples", "metric", "score", "95 % interval"), rows)
