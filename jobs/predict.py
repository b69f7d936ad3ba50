"""`intertitle predict`: an answer to what no corpus holds."""

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

from jobs import console
from jobs.options import (
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
from jobs.precompute import EXIT_TOO_MANY_FAILED, LIMITS
from pipeline.errors import UserError, is_text, one_line

if TYPE_CHECKING:
    from training.corpus_job import CorpusJob
    from training.data.source import Reading
    from training.predictions import Failure, Prediction
    from training.trained import TrainedModel

STDIN = Path("-")
PICTURES = (".png", ".pdf", ".svg")


@with_search
def predict(
    run: Run,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Videos, images and folders of them; - reads paths, or sentences for a run that "
            "reads, from standard input, a line each."
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="To translate or classify; may be repeated.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="About the files, or the items of a corpus.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Whose examples, instead of files and texts; of --corpus and --features."
        ),
    ] = None,
    corpus: Corpus = None,
    features: Features = None,
    nbest: Annotated[
        int, typer.Option(min=1, help="So many of each, as lines of JSON; a beam is as wide.")
    ] = 1,
    rescore: Annotated[
        Path | None,
        typer.Option(
            help="Rank the candidates of this list anew: lines of JSON with id, text and score. "
            "Ids are those of the corpus, else files or sentences."
        ),
    ] = None,
    weight: Annotated[
        float, typer.Option(min=0, max=1, help="Of the scores that --rescore finds in the list.")
    ] = 0.0,
    explain: Annotated[
        Path | None,
        typer.Option(help="Draw where it looked for each word of one input: .png, .pdf or .svg."),
    ] = None,
    follow_links: FollowLinks = False,
    animations_as_images: AnimationsAsImages = False,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Of a picture or frame.")
    ] = LIMITS.max_pixels,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A file: .txt, .jsonl or .parquet; with --workers a folder. Default: printed."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="On Ray, for a corpus; called again, it does what is missing."),
    ] = None,
    address: Address = None,
    ensemble: Ensemble = None,
    max_source_tokens: MaxSourceTokens = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
    *,
    search: dict[str, Any],
) -> None:
    """Say what files show, answer a question about them, translate or classify texts.

    With --corpus and --features, and without --split, it is asked about every item of the corpus.
    """
    from training.corpus_job import CorpusJob
    from training.data.source import Reading
    from training.prediction import ask_of, predict_each, rank_anew, tell
    from training.predictions import (
        Failure,
        Prediction,
        check_out,
        read_predictions,
        write_predictions,
    )
    from training.scoring import data_for, load_together
    from training.tracking.run import default_tracking_uri, resolve_run

    of_corpus = any(given is not None for given in (split, corpus, features))
    _check_asked(files, text, question, split, rescore, corpus, features)
    _check_told(of_corpus, rescore, nbest, explain, out, workers)
    _check_in_vain(rescore, weight, workers, address, search)
    if out is not None and workers is None:
        check_out(out, nbest if rescore is None else 2)
    candidates = read_predictions(rescore, scored=weight > 0) if rescore else []
    reading = Reading(max_pixels, animations_as_images)
    uri = tracking_uri or default_tracking_uri()
    runs = tuple(resolve_run(name, uri) for name in (run, *(ensemble or ())))
    trained = load_together(runs).searching(**search).reading(max_source_tokens)
    job = None
    if of_corpus:
        data = data_for(trained, corpus, features)
        job = CorpusJob(runs, search, data, split, question, nbest, max_source_tokens)
    if job and workers is not None and out is not None:
        _predict_corpus(trained, job, out, workers, address, json)
        return
    trained = trained.on_gpu_if_any()
    told: Sequence[Prediction | Failure]
    left_out = 0
    asked = None
    with console.bar("predicting") as bar:
        if rescore is not None:
            asked = job.ask(trained) if job else ask_of(trained, candidates, reading)
            left_out = len({*asked.left_out} & {candidate.id for candidate in candidates})
            told = rank_anew(trained, asked, candidates, weight)
        elif job:
            asked = job.ask(trained)
            left_out = len(asked.left_out)
            told = tell(trained, asked, range(len(asked.ids)), nbest, bar.update)
        else:
            sees = trained.task.sees != "nothing"
            seen, read = _inputs(files or [], text or [], question, sees, follow_links)
            if explain is not None:
                told = [_explain(trained, seen, read, explain, reading)]
            else:
                told = list(
                    predict_each(
                        trained,
                        seen,
                        read,
                        reading=reading,
                        nbest=nbest,
                        on_progress=bar.update,
                        on_warning=console.warn,
                    )
                )
    predictions = [one for one in told if isinstance(one, Prediction)]
    failed = [one for one in told if isinstance(one, Failure)]
    for warning in asked.warnings if asked else ():
        console.warn(warning)
    _name_left_out(left_out)
    if failed:
        _name_failures(failed, sum(one.rank == 1 for one in predictions))
    if out is not None:
        write_predictions(out, told)
        console.say(f"{out}: {len(predictions):,} predictions")
    else:
        _print(told, lists=nbest > 1 or rescore is not None, bare=STDIN in (files or []))
    if json:
        results = [{"input": p.id, "text": p.text, "score": p.score} for p in predictions]
        console.result(
            {
                "results": results,
                "failed": [asdict(one) for one in failed],
                "left_out": left_out,
            }
        )
    if failed:
        raise typer.Exit(EXIT_TOO_MANY_FAILED)


def _check_asked(
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
    typed = bool(files or text) or question is not None
    for name, given in (("--split", split), ("--rescore", rescore)):
        if given is not None and typed:
            raise UserError(f"{name} {given}: not with files, --text or --question")
    for name, place in (("--corpus", corpus), ("--features", features)):
        if place is not None and (files or text):
            raise UserError(f"{name} {place}: not with files or --text")
    if split is None and (corpus is None) != (features is None):
        raise UserError("--corpus, --features: both of them, or with --split")
    for name, told in (("--question", [question or ""]), ("--text", text or [])):
        for one in told:
            _check_text(one, name)


def _check_told(
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


def _check_in_vain(
    rescore: Path | None,
    weight: float,
    workers: int | None,
    address: str | None,
    search: Mapping[str, object],
) -> None:
    """Options that would change nothing."""
    if rescore is None and weight:
        raise UserError(f"--weight {weight:g}: only with --rescore")
    if workers is None and address is not None:
        raise UserError(f"--address {address}: only with --workers")
    # What ranks a list is its length penalty.
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
    from training.explaining import explain, save

    if len(files) > 1 or len(texts) > 1:
        raise UserError(f"--explain: {max(len(files), len(texts))} inputs, allowed: one")
    told, figure = explain(trained, next(iter(files), None), next(iter(texts), None), reading)
    save(figure, out)
    return told


def _predict_corpus(
    trained: TrainedModel,
    job: CorpusJob,
    out: Path,
    workers: int,
    address: str | None,
    json: bool,
) -> None:
    from jobs.cluster import cluster
    from training.predicting_corpus import predict_corpus

    with cluster(address), console.bar("predicting") as bar:
        report = predict_corpus(trained, job, out, workers, bar.update)
    for warning in report.warnings:
        console.warn(warning)
    _name_left_out(report.left_out)
    console.say(
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
    """What was asked, with standard input and folders read."""
    from pipeline.files import files_below

    lines = _lines(sys.stdin.buffer.read()) if STDIN in files else []
    named = [file for file in files if file != STDIN]
    read = [*texts, *([] if question is None else [question])]
    if not sees:
        told = [line.decode("utf-8", "surrogateescape") for line in lines]
        for number, line in enumerate(told, start=1):
            _check_text(line, f"standard input: line {number}")
        return named, [*read, *told]
    # An empty line would be this folder.
    listed = [Path(os.fsdecode(line)) for line in lines if line.strip()]
    below: list[Path] = []
    for file in (*named, *listed):
        found, left_out = files_below(file, follow_links)
        below += found
        for note in left_out:
            console.ERRORS.print(one_line(note), markup=False, soft_wrap=True)
    return below, read


def _lines(data: bytes) -> list[bytes]:
    """The lines of a text without their ends: LF or CRLF, and nothing else, ends a line."""
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
    """Say which files could not be read, and why.

    Raises:
        UserError: none could.
    """
    if not num_answered and len(failed) == 1:
        raise UserError(failed[0].message)
    for one in failed:
        console.ERRORS.print(f"failed: {one.error}: {one.message}", markup=False, soft_wrap=True)
    asked = f"{num_answered + len(failed):,} files"
    if not num_answered:
        raise UserError(f"{asked}: none of them can be read")
    console.ERRORS.print(f"{asked}: {num_answered:,} answered, {len(failed):,} failed")


def _print(told: Sequence[Prediction | Failure], *, lists: bool, bare: bool) -> None:
    from training.predictions import Prediction, texts_of

    # Lists and bare lines are for a program: rich would turn ":dog:" into a picture.
    if bare and not lists:
        print("".join(f"{text}\n" for text in texts_of(told)), end="")
        return
    for one in told:
        if not isinstance(one, Prediction):
            continue
        if lists:
            print(one.to_json())
        else:
            console.say(f"{one.id}: {one.text}" if one.id else f"{one.text}\n")
