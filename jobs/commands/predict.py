"""`intertitle predict`: generate predictions for files, texts, or the items of a corpus."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from upath import UPath

from intertitle.jobs import console
from intertitle.jobs.commands.precompute import EXIT_TOO_MANY_FAILED, LIMITS
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
from intertitle.pipeline.errors import UserError, is_text, one_line

if TYPE_CHECKING:
    from intertitle.training.data.data_ref import Reading
    from intertitle.training.inference.corpus_job import CorpusJob
    from intertitle.training.inference.model_bundle import TrainedModel
    from intertitle.training.inference.prediction_io import Failure, Prediction

STDIN = Path("-")
PICTURES = (".png", ".pdf", ".svg")


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
            help="File to draw the attention of one input to, per token: .png, .pdf or .svg."
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
    from intertitle.training.data.data_ref import Reading
    from intertitle.training.inference.corpus_job import CorpusJob
    from intertitle.training.inference.model_bundle import data_for, load_ensemble
    from intertitle.training.inference.prediction_io import (
        Failure,
        Prediction,
        check_out,
        read_predictions,
        write_predictions,
    )
    from intertitle.training.inference.predictor import (
        build_candidate_inputs,
        iter_predictions,
        predict_batch,
        rescore_candidates,
    )
    from intertitle.training.tracking.run import default_tracking_uri, resolve_run

    of_corpus = any(option is not None for option in (split, corpus, features))
    _check_inputs(files, text, question, split, rescore, corpus, features)
    _check_output(of_corpus, rescore, nbest, explain, out, workers)
    _check_unused(rescore, weight, workers, address, search)
    if out is not None and workers is None:
        check_out(out, nbest if rescore is None else 2)
    candidates = read_predictions(rescore, scored=weight > 0) if rescore else []
    reading = Reading(max_pixels, animations_as_images)
    uri = tracking_uri or default_tracking_uri()
    runs = tuple(resolve_run(name, uri) for name in (run, *(ensemble or ())))
    trained = load_ensemble(runs).with_search(**search).reading(max_source_tokens)
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
            paths, sentences = _inputs(files or [], text or [], question, is_visual, follow_links)
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
    _name_left_out(left_out)
    if failed:
        _name_failures(failed, sum(output.rank == 1 for output in predictions))
    if out is not None:
        write_predictions(out, outputs)
        console.echo(f"{out}: {len(predictions):,} predictions")
    else:
        _print(outputs, lists=nbest > 1 or rescore is not None, bare=STDIN in (files or []))
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


def _check_inputs(
    files: Sequence[Path] | None,
    text: Sequence[str] | None,
    question: str | None,
    split: str | None,
    rescore: Path | None,
    corpus: UPath | None,
    features: UPath | None,
) -> None:
    if text and question is not None:
        raise UserError("--text, --question: one of the two")
    has_inputs = bool(files or text) or question is not None
    for name, value in (("--split", split), ("--rescore", rescore)):
        if value is not None and has_inputs:
            raise UserError(f"{name} {value}: not with files, --text or --question")
    for name, place in (("--corpus", corpus), ("--features", features)):
        if place is not None and (files or text):
            raise UserError(f"{name} {place}: not with files or --text")
    if split is None and (corpus is None) != (features is None):
        raise UserError("--corpus, --features: both of them, or with --split")
    for name, texts in (("--question", [question or ""]), ("--text", text or [])):
        for item in texts:
            _check_text(item, name)


def _check_output(
    of_corpus: bool,
    rescore: Path | None,
    nbest: int,
    explain: Path | None,
    out: Path | None,
    workers: int | None,
) -> None:
    if explain is not None:
        if of_corpus or rescore is not None or nbest > 1:
            raise UserError(f"--explain {explain}: not with a corpus, --rescore or --nbest")
        if explain.suffix not in PICTURES:
            known = " ".join(PICTURES)
            raise UserError(f"--explain: {explain}: ending {explain.suffix!r}, allowed: {known}")
    if rescore is not None and nbest > 1:
        raise UserError(f"--nbest {nbest}: not with --rescore, which ranks all of its list")
    if workers is not None and (not of_corpus or out is None or rescore is not None):
        raise UserError(
            "--workers: needs --split, or --corpus and --features, and --out FOLDER, and is not "
            "for --rescore"
        )


def _check_unused(
    rescore: Path | None,
    weight: float,
    workers: int | None,
    address: str | None,
    search: Mapping[str, object],
) -> None:
    """Reject options that would have no effect.

    Raises:
        UserError: an option has no effect together with the others.
    """
    if rescore is None and weight:
        raise UserError(f"--weight {weight:g}: only with --rescore")
    if workers is None and address is not None:
        raise UserError(f"--address {address}: only with --workers")
    # Re-ranking runs no search; of its options only the length penalty changes the scores.
    if rescore is not None and any(
        value is not None for name, value in search.items() if name != "length_penalty"
    ):
        raise UserError(f"--rescore {rescore}: not with options of a search but --length-penalty")


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
    _name_left_out(report.left_out)
    console.echo(
        f"{out}: {report.answered:,} answered in {report.parts} parts, {report.skipped} of them "
        "skipped as there"
    )
    if json:
        console.result({"out": str(out), **asdict(report)})


def _inputs(
    files: Sequence[Path],
    texts: Sequence[str],
    question: str | None,
    sees: bool,
    follow_links: bool,
) -> tuple[list[Path], list[str]]:
    """Return the files and the texts of the inputs, with standard input and folders read."""
    from intertitle.pipeline.extract import files_below

    lines = _lines(sys.stdin.buffer.read()) if STDIN in files else []
    named = [file for file in files if file != STDIN]
    sentences = [*texts, *([] if question is None else [question])]
    if not sees:
        decoded = [line.decode("utf-8", "surrogateescape") for line in lines]
        for number, line in enumerate(decoded, start=1):
            _check_text(line, f"standard input: line {number}")
        return named, [*sentences, *decoded]
    # An empty line is skipped: as a path, it would mean the current folder.
    listed = [Path(os.fsdecode(line)) for line in lines if line.strip()]
    media_files: list[Path] = []
    for file in (*named, *listed):
        media, left_out = files_below(file, follow_links)
        media_files += media
        for note in left_out:
            console.ERRORS.print(one_line(note), markup=False, soft_wrap=True)
    return media_files, sentences


def _lines(data: bytes) -> list[bytes]:
    """Split a text into lines without their line breaks; only LF and CRLF end a line."""
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines]


def _check_text(text: str, where: str) -> None:
    if not is_text(text):
        raise UserError(f"{where}: {one_line(text)}: not UTF-8, which is allowed alone")


def _name_left_out(num: int) -> None:
    if num:
        console.ERRORS.print(f"{num:,} left out: quarantined items")


def _name_failures(failed: Sequence[Failure], num_answered: int) -> None:
    """Print which files could not be read, and why.

    Raises:
        UserError: no file could be read.
    """
    if not num_answered and len(failed) == 1:
        raise UserError(failed[0].message)
    for failure in failed:
        console.ERRORS.print(
            f"failed: {failure.error}: {failure.message}", markup=False, soft_wrap=True
        )
    total = f"{num_answered + len(failed):,} files"
    if not num_answered:
        raise UserError(f"{total}: none of them can be read")
    console.ERRORS.print(f"{total}: {num_answered:,} answered, {len(failed):,} failed")


def _print(predictions: Sequence[Prediction | Failure], *, lists: bool, bare: bool) -> None:
    from intertitle.training.inference.prediction_io import Prediction, texts_of

    # Lists and bare lines are read by programs, and rich would replace ":dog:" by an emoji.
    if bare and not lists:
        print("".join(f"{text}\n" for text in texts_of(predictions)), end="")
        return
    for output in predictions:
        if not isinstance(output, Prediction):
            continue
        if lists:
            print(output.to_json())
        else:
            console.echo(f"{output.id}: {output.text}" if output.id else f"{output.text}\n")
