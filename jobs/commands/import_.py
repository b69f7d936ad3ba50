"""`intertitle import`: convert a published data set to a corpus."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from upath import UPath

from intertitle.jobs import console
from intertitle.jobs.options import AnimationsAsImages, FollowLinks, Json
from intertitle.jobs.progress import run_import
from intertitle.pipeline.errors import one_line
from intertitle.pipeline.importers.dispatch import FORMATS
from intertitle.pipeline.storage.paths import as_path


def import_corpus(
    format: Annotated[str, typer.Argument(help=f"Format of the data: {', '.join(FORMATS)}.")],
    out: Annotated[
        UPath,
        typer.Option(
            parser=as_path, metavar="CORPUS", help="Folder or URL of the corpus to write."
        ),
    ],
    source: Annotated[
        list[UPath] | None,
        typer.Argument(
            parser=as_path, metavar="SOURCE", help="Files or folders of the data, as listed above."
        ),
    ] = None,
    source_language: Annotated[
        str | None,
        typer.Option(
            help="Source language, such as en: suffix of the files to read (parallel FOLDER only)."
        ),
    ] = None,
    target_language: Annotated[
        str | None,
        typer.Option(
            help="Language of the translations or captions, such as zh: determines how metrics "
            "split text into words; for parallel FOLDER also the suffix of the files to read."
        ),
    ] = None,
    num_clips: Annotated[int, typer.Option(help="Number of clips to draw (rendered only).")] = 400,
    seed: Annotated[int, typer.Option(help="Random seed of the clips (rendered only).")] = 0,
    frame_labels: Annotated[
        bool,
        typer.Option(
            "--frame-labels", help="Give each frame a label, without captions (rendered only)."
        ),
    ] = False,
    follow_links: FollowLinks = False,
    animations_as_images: AnimationsAsImages = False,
    json: Json = False,
) -> None:
    """Create a corpus from a published data set, a folder, or clips drawn by the program.

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
    labelled FOLDER|FILE      label TAB text, or as named in a header: sentence TAB label
    text FOLDER|FILE          each line is an example, for a language model
    folder FOLDER|URL         any videos and images, without captions
    rendered                  clips drawn by the program
    """
    languages = (source_language, target_language)
    report = run_import(
        format,
        source or [],
        out,
        num_clips=num_clips,
        seed=seed,
        languages=languages,
        frame_labels=frame_labels,
        follow_links=follow_links,
        animations_as_images=animations_as_images,
    )
    for note in report.notes:
        console.echo(note)
    for name in report.missing[:20]:
        console.echo(f"missing: {one_line(name)}")
    if len(report.missing) > 20:
        console.echo(f"missing: {len(report.missing) - 20} more")
    console.echo(
        f"{report.corpus}: {report.items} items, {report.examples} examples, "
        f"{report.references} references, {len(report.missing)} missing files"
    )
    if json:
        console.result({**asdict(report), "missing": len(report.missing)})
