"""`intertitle import`: a data set as it was published becomes a corpus."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from upath import UPath

from jobs import console
from jobs.options import AnimationsAsImages, FollowLinks, Json
from pipeline.corpus import name_target_language
from pipeline.errors import UserError, one_line
from pipeline.importers.coco import import_coco
from pipeline.importers.easy_vqa import import_easy_vqa
from pipeline.importers.flickr8k import import_flickr8k
from pipeline.importers.flickr30k import import_flickr30k
from pipeline.importers.folder import import_folder
from pipeline.importers.labelled import import_labelled
from pipeline.importers.msrvtt import import_msrvtt
from pipeline.importers.msvd import import_msvd
from pipeline.importers.parallel import import_parallel_files, import_parallel_folder
from pipeline.importers.rendered import render_corpus
from pipeline.importers.report import ImportReport
from pipeline.importers.text import import_text
from pipeline.importers.vqa_v2 import import_vqa_v2
from pipeline.location import AnyPath, is_local, location

P = TypeVar("P", bound=AnyPath)

# SOURCE is one path.
FROM_ONE = {
    "labelled": import_labelled,
    "text": import_text,
    "vqa_v2": import_vqa_v2,
}
# SOURCE is a folder, and perhaps JSON files that are read instead of those which it holds.
FROM_FOLDER_AND_JSON = {
    "coco": import_coco,
    "flickr8k": import_flickr8k,
    "flickr30k": import_flickr30k,
}
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*")
# Their targets are sentences of some language.
WITH_SENTENCES = ("coco", "flickr8k", "flickr30k", "msrvtt", "msvd", "parallel")
# A folder is searched at any depth.
SEARCHED = ("folder", "msrvtt", "msvd")
FORMATS = sorted([*FROM_ONE, *FROM_FOLDER_AND_JSON, *SEARCHED, "easy_vqa", "parallel", "rendered"])


def import_corpus(
    format: Annotated[str, typer.Argument(help=f"One of: {', '.join(FORMATS)}.")],
    out: Annotated[
        UPath, typer.Option(parser=location, metavar="CORPUS", help="To write: a folder or URL.")
    ],
    source: Annotated[
        list[UPath] | None,
        typer.Argument(parser=location, metavar="SOURCE", help="Where the data lies; see above."),
    ] = None,
    source_language: Annotated[
        str | None, typer.Option(help="parallel, FOLDER: the ending of the files to read: en.")
    ] = None,
    target_language: Annotated[
        str | None,
        typer.Option(
            help="The language of translations or captions, which says how scores find words in "
            "them: zh; parallel, FOLDER: also their files' ending."
        ),
    ] = None,
    num_clips: Annotated[int, typer.Option(help="rendered: how many clips to draw.")] = 400,
    seed: Annotated[int, typer.Option(help="rendered: the same seed draws the same clips.")] = 0,
    frame_labels: Annotated[
        bool,
        typer.Option("--frame-labels", help="rendered: a label for each frame, no captions."),
    ] = False,
    follow_links: FollowLinks = False,
    animations_as_images: AnimationsAsImages = False,
    json: Json = False,
) -> None:
    """Make a corpus of a published data set, of any folder, or of clips drawn by the program.

    \b
    FORMAT SOURCE...
    coco FOLDER [JSON...]     annotations/captions_*.json; or Karpathy's JSON
    flickr8k FOLDER [JSON]    captions and lists as published; or Karpathy's JSON
    flickr30k FOLDER [JSON]   results_20130124.token, results.csv; or Karpathy's
    msvd FOLDER               AllVideoDescriptions.txt or the table, and clips
    msrvtt FOLDER [JSON...]   *videodatainfo*.json and clips
    vqa_v2 FOLDER             questions and answers about COCO's photographs
    easy_vqa                  the Python package easy-vqa
    parallel SOURCE TARGET    two aligned files
    parallel FOLDER           pairs like train.en train.de; name both languages
    labelled FOLDER|FILE      label TAB text, or as a header says: sentence TAB label
    text FOLDER|FILE          a line is an example, for a language model
    folder FOLDER|URL         any videos and images, without captions
    rendered                  clips that the program draws
    """
    languages = (source_language, target_language)
    report = run_import(
        format,
        source or [],
        out,
        num_clips,
        seed,
        languages,
        frame_labels,
        follow_links,
        animations_as_images,
    )
    for note in report.notes:
        console.say(note)
    for name in report.missing[:20]:
        console.say(f"missing: {one_line(name)}")
    if len(report.missing) > 20:
        console.say(f"missing: {len(report.missing) - 20} more")
    console.say(
        f"{report.corpus}: {report.items} items, {report.examples} examples, "
        f"{report.references} references, {len(report.missing)} missing files"
    )
    if json:
        console.result({**asdict(report), "missing": len(report.missing)})


def run_import(
    format: str,
    source: list[UPath],
    out: AnyPath,
    num_clips: int = 400,
    seed: int = 0,
    languages: tuple[str | None, str | None] = (None, None),
    frame_labels: bool = False,
    follow_links: bool = False,
    animations_as_images: bool = False,
) -> ImportReport:
    """Call the importer of a format."""
    if format not in FORMATS:
        raise UserError(f"import: {format!r}, allowed: {', '.join(FORMATS)}")
    source_language, target_language = languages
    if format != "parallel" and source_language is not None:
        raise UserError(f"import {format}: takes no --source-language")
    if format not in WITH_SENTENCES and target_language is not None:
        raise UserError(
            f"import {format}: takes no --target-language, allowed for {', '.join(WITH_SENTENCES)}"
        )
    if target_language is not None and not _LANGUAGE.fullmatch(target_language):
        raise UserError(
            f"import {format}: --target-language {target_language}, allowed: a code, as en, zh or "
            "pt_BR"
        )
    if format != "rendered" and frame_labels:
        raise UserError(f"import {format}: takes no --frame-labels")
    if format not in SEARCHED and follow_links:
        raise UserError(f"import {format}: takes no --follow-links")
    if format != "folder" and animations_as_images:
        raise UserError(f"import {format}: takes no --animations-as-images")
    if format == "folder":
        return import_folder(
            _only(format, source),
            out,
            follow_links=follow_links,
            animations_as_images=animations_as_images,
        )
    here = [path for path in source if is_local(path)]
    if len(here) != len(source):
        raise UserError(f"import {format}: {source}, allowed: a path on this machine")
    if format == "rendered":
        return _render(here, out, num_clips, seed, frame_labels)
    if format == "msvd":
        report = import_msvd(_only(format, here), out, follow_links)
    elif format == "msrvtt":
        report = import_msrvtt(_folder(format, here), out, here[1:], follow_links)
    else:
        report = _import_published(format, here, out, languages)
    if target_language is not None:
        name_target_language(out, target_language)
    return report


def _import_published(
    format: str,
    source: list[Path],
    out: AnyPath,
    languages: tuple[str | None, str | None],
) -> ImportReport:
    if format == "parallel":
        return _import_parallel(source, out, languages)
    if format in FROM_ONE:
        return FROM_ONE[format](_only(format, source), out)
    if format in FROM_FOLDER_AND_JSON:
        return FROM_FOLDER_AND_JSON[format](_folder(format, source), out, source[1:])
    _take_no_source(format, source)
    return import_easy_vqa(out)


def _only(format: str, source: Sequence[P]) -> P:
    if len(source) != 1:
        raise UserError(f"import {format}: takes one SOURCE, got {len(source)}")
    return source[0]


def _folder(format: str, source: Sequence[Path]) -> Path:
    if not source:
        raise UserError(f"import {format}: takes a SOURCE folder, got none")
    return source[0]


def _render(
    source: list[Path], out: AnyPath, num_clips: int, seed: int, frame_labels: bool
) -> ImportReport:
    _take_no_source("rendered", source)
    folder = location(out)
    if not is_local(folder):
        raise UserError(f"import rendered: {out}, allowed: a path on this machine")
    with console.bar("drawing clips") as bar:
        return render_corpus(
            folder,
            num_clips=num_clips,
            seed=seed,
            frame_labels=frame_labels,
            on_progress=bar.update,
        )


def _take_no_source(format: str, source: list[Path]) -> None:
    if source:
        raise UserError(f"import {format}: takes no SOURCE, got {source[0]}")


def _import_parallel(
    source: list[Path], out: AnyPath, languages: tuple[str | None, str | None]
) -> ImportReport:
    source_language, target_language = languages
    if len(source) == 2 and source_language is None:
        return import_parallel_files(source[0], source[1], out)
    if len(source) == 1 and source_language and target_language:
        return import_parallel_folder(source[0], out, source_language, target_language)
    raise UserError(
        "import parallel: takes SOURCE_FILE TARGET_FILE, or FOLDER with --source-language and "
        f"--target-language; got {' '.join(map(str, source)) or 'no SOURCE'}"
    )
