"""The command `predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intertitle.jobs import console
from intertitle.jobs.commands.precompute import LIMITS
from intertitle.jobs.commands.predict.inputs import (
    STDIN,
    check_inputs,
    check_output,
    check_unused,
    read_inputs,
)
from intertitle.jobs.commands.predict.outputs import name_failures, name_left_out, print_predictions
from intertitle.jobs.options import (
    Address,
    AnimationsAsImages,
    Corpus,
    Ensemble,
    Features,
    FollowLinks,
    Json,
    MaxSourceTokens,
    Run,
    TrackingUri,
    with_search,
)
from intertitle.jobs.progress import EXIT_TOO_MANY_FAILED
from intertitle.jobs.tracking import find_run, tracking_store
from intertitle.pipeline.errors import UserError

if TYPE_CHECKING:
    from intertitle.training.data.item_views import Reading
    from intertitle.training.inference.corpus_job import CorpusJob
    from intertitle.training.inference.model_bundle import TrainedModel
    from intertitle.training.inference.prediction_io import Failure, Prediction


@with_search
def predict(
    run: Run,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Videos, images and folders of them; - reads standard input, one path per line, "
            "or one text per line for a model of text."
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Text to translate or classify; may be repeated."),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(help="Question about each file, or about each item of a corpus."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the corpus whose examples are predicted, instead of files and texts."
        ),
    ] = None,
    corpus: Corpus = None,
    features: Features = None,
    nbest: Annotated[
        int,
        typer.Option(
            min=1,
            help="Predictions per input, as JSON lines if above 1; the beam is at least as wide.",
        ),
    ] = 1,
    rescore: Annotated[
        Path | None,
        typer.Option(
            help="Re-rank the candidates in this file: JSON lines with id, text and score; an id "
            "is that of an example of the corpus, or else a file or a text."
        ),
    ] = None,
    weight: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Weight w of the file's scores in --rescore: w * file's + (1 - w) * model's.",
        ),
    ] = 0.0,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="File to draw the attention of one input to, by token or hop: .png, .pdf or .svg."
        ),
    ] = None,
    follow_links: FollowLinks = False,
    animations_as_images: AnimationsAsImages = False,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Maximum number of pixels of an image or frame.")
    ] = LIMITS.max_pixels,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write: .txt, .jsonl or .parquet; with --workers a folder; default: print."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of Ray workers, for a corpus; a repeated call does only what is missing.",
        ),
    ] = None,
    address: Address = None,
    ensemble: Ensemble = None,
    max_source_tokens: MaxSourceTokens = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
    *,
    search: dict[str, Any],
) -> None:
    """Caption files, answer a question about them, or translate or classify texts.

    With --corpus and --features, and without --split, a prediction is made for every item of the
    corpus.
    """
    from intertitle.training.inference.prediction_io import (
        Failure,
        Prediction,
        check_out,
        read_predictions,
        write_predictions,
    )

    of_corpus = any(option is not None for option in (split, corpus, features))
    check_inputs(files, text, question, split, rescore, corpus, features or ())
    check_output(of_corpus, rescore, nbest, explain, out, workers)
    check_unused(rescore, weight, workers, address, search)
    if out is not None and workers is None:
        check_out(out, nbest if rescore is None else 2)
    candidates = read_predictions(rescore, scored=weight > 0) if rescore else []
    uri = tracking_store(tracking_uri)
    runs = tuple(find_run(name, uri) for name in (run, *(ensemble or ())))
    with console.step("loading the model"):
        from intertitle.training.data.item_views import Reading
        from intertitle.training.inference.corpus_job import CorpusJob
        from intertitle.training.inference.inputs import build_candidate_inputs
        from intertitle.training.inference.model_bundle import data_for, load_ensemble
        from intertitle.training.inference.predictor import (
            iter_predictions,
            predict_batch,
            rescore_candidates,
        )

        trained = load_ensemble(runs).with_search(**search).reading(max_source_tokens)
    reading = Reading(max_pixels, animations_as_images)
    job = None
    if of_corpus:
        data = data_for(trained, corpus, features)
        job = CorpusJob(runs, search, data, split, question, nbest, max_source_tokens)
    if job and workers is not None and out is not None:
        _predict_corpus(trained, job, out, workers, address, json)
        return
    trained = trained.to_default_device()
    outputs: Sequence[Prediction | Failure]
    left_out = 0
    inputs = None
    with console.bar("predicting") as bar:
        if rescore is not None:
            inputs = (
                job.build_inputs(trained)
                if job
                else build_candidate_inputs(trained, candidates, reading)
            )
            left_out = len({*inputs.left_out} & {candidate.id for candidate in candidates})
            outputs = rescore_candidates(trained, inputs, candidates, weight)
        elif job:
            inputs = job.build_inputs(trained)
            left_out = len(inputs.left_out)
            outputs = predict_batch(trained, inputs, range(len(inputs.ids)), nbest, bar.update)
        else:
            is_visual = trained.task.visual_input != "nothing"
            paths, sentences = read_inputs(
                files or [], text or [], question, is_visual, follow_links
            )
            if explain is not None:
                outputs = [_explain(trained, paths, sentences, explain, reading)]
            else:
                outputs = list(
                    iter_predictions(
                        trained,
                        paths,
                        sentences,
                        reading=reading,
                        nbest=nbest,
                        on_progress=bar.update,
                        on_warning=console.warn,
                    )
                )
    predictions = [output for output in outputs if isinstance(output, Prediction)]
    failed = [output for output in outputs if isinstance(output, Failure)]
    for warning in inputs.warnings if inputs else ():
        console.warn(warning)
    name_left_out(left_out)
    if failed:
        name_failures(failed, sum(output.rank == 1 for output in predictions))
    if out is not None:
        write_predictions(out, outputs)
        console.echo(f"{out}: {len(predictions):,} predictions")
    else:
        print_predictions(
            outputs, lists=nbest > 1 or rescore is not None, bare=STDIN in (files or [])
        )
    if json:
        results = [{"input": p.id, "text": p.text, "score": p.score} for p in predictions]
        console.result(
            {
                "results": results,
                "failed": [asdict(output) for output in failed],
                "left_out": left_out,
            }
        )
    if failed:
        raise typer.Exit(EXIT_TOO_MANY_FAILED)


def _explain(
    trained: TrainedModel,
    files: Sequence[Path],
    texts: Sequence[str],
    out: Path,
    reading: Reading,
) -> Prediction:
    from intertitle.training.inference.attention_maps import explain, save

    if len(files) > 1 or len(texts) > 1:
        raise UserError(f"--explain: {max(len(files), len(texts))} inputs, allowed: one")
    prediction, figure = explain(trained, next(iter(files), None), next(iter(texts), None), reading)
    save(figure, out)
    return prediction


def _predict_corpus(
    trained: TrainedModel,
    job: CorpusJob,
    out: Path,
    workers: int,
    address: str | None,
    json: bool,
) -> None:
    from intertitle.jobs.cluster.session import cluster
    from intertitle.training.inference.batch_inference import predict_corpus

    with cluster(address), console.bar("predicting") as bar:
        report = predict_corpus(trained, job, out, workers, bar.update)
    for warning in report.warnings:
        console.warn(warning)
    name_left_out(report.left_out)
    console.echo(
        f"{out}: {report.answered:,} answered in {report.parts} parts, {report.skipped} of them "
        "skipped as there"
    )
    if json:
        console.result({"out": str(out), **asdict(report)})
