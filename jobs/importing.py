"""`intertitle import`: a data set as it was published becomes a corpus."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs import console
from jobs.options import Json, local_path
from pipeline.corpus import ImportReport
from pipeline.errors import UserError
from pipeline.importers.flickr8k import import_flickr8k
from pipeline.importers.folder import import_folder
from pipeline.importers.rendered import render_corpus

FROM_FOLDER = {"flickr8k": import_flickr8k, "folder": import_folder}
FORMATS = (*FROM_FOLDER, "rendered")


def import_corpus(
    format: Annotated[str, typer.Argument(help=f"One of: {', '.join(FORMATS)}.")],
    out: Annotated[
        Path, typer.Option(parser=local_path, metavar="PATH", help="The corpus to write, a folder.")
    ],
    source: Annotated[
        list[Path] | None, typer.Argument(help="Where the data lies; none for rendered.")
    ] = None,
    num_clips: Annotated[int, typer.Option(help="rendered: how many clips to draw.")] = 400,
    seed: Annotated[int, typer.Option(help="rendered: the same seed draws the same clips.")] = 0,
    json: Json = False,
) -> None:
    """Make a corpus of a published data set, of any folder, or of clips drawn by the program."""
    report = run_import(format, source or [], out, num_clips, seed)
    for note in report.notes:
        console.say(note)
    for name in report.missing[:20]:
        console.say(f"missing: {name}")
    if len(report.missing) > 20:
        console.say(f"missing: {len(report.missing) - 20} more")
    console.say(
        f"{report.corpus}: {report.items} items, {report.examples} examples, "
        f"{report.references} references, {len(report.missing)} missing files"
    )
    if json:
        console.result({**asdict(report), "missing": len(report.missing)})


def run_import(
    format: str, source: list[Path], out: Path, num_clips: int, seed: int
) -> ImportReport:
    """Call the importer of a format."""
    if format == "rendered":
        if source:
            raise UserError(f"import rendered: takes no SOURCE, got {source[0]}")
        with console.bar("drawing clips") as bar:
            return render_corpus(out, num_clips=num_clips, seed=seed, on_progress=bar.update)
    if format not in FROM_FOLDER:
        raise UserError(f"import: {format!r}, allowed: {', '.join(FORMATS)}")
    if len(source) != 1:
        raise UserError(f"import {format}: takes one SOURCE folder, got {len(source)}")
    return FROM_FOLDER[format](source[0], out)
