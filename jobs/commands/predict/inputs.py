"""Inputs of `intertitle predict`: the options that go together, standard input and folders."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from upath import UPath

from intertitle.jobs import console
from intertitle.pipeline.errors import UserError, is_text, one_line

STDIN = Path("-")
PICTURES = (".png", ".pdf", ".svg")


def check_inputs(
    files: Sequence[Path] | None,
    text: Sequence[str] | None,
    question: str | None,
    split: str | None,
    rescore: Path | None,
    corpus: UPath | None,
    features: Sequence[UPath],
) -> None:
    """Reject inputs that do not go together, and texts that are not UTF-8.

    Raises:
        UserError: an option excludes another one, or a text is not UTF-8.
    """
    if text and question is not None:
        raise UserError("--text, --question: one of the two")
    has_inputs = bool(files or text) or question is not None
    for name, value in (("--split", split), ("--rescore", rescore)):
        if value is not None and has_inputs:
            raise UserError(f"{name} {value}: not with files, --text or --question")
    for name, place in (("--corpus", corpus), *(("--features", store) for store in features)):
        if place is not None and (files or text):
            raise UserError(f"{name} {place}: not with files or --text")
    if split is None and (corpus is None) != (not features):
        raise UserError("--corpus, --features: both of them, or with --split")
    for name, texts in (("--question", [question or ""]), ("--text", text or [])):
        for item in texts:
            _check_text(item, name)


def check_output(
    of_corpus: bool,
    rescore: Path | None,
    nbest: int,
    explain: Path | None,
    out: Path | None,
    workers: int | None,
) -> None:
    """Reject options of the output that do not go together.

    Raises:
        UserError: an option excludes another one, or `explain` is not the file of a picture.
    """
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


def check_unused(
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


def read_inputs(
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
            console.note(one_line(note))
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
