"""Import a dataset by the name of its format."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from upath import UPath

from intertitle.pipeline.corpus import name_target_language
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.coco import import_coco
from intertitle.pipeline.importers.easy_vqa import import_easy_vqa
from intertitle.pipeline.importers.flickr8k import import_flickr8k
from intertitle.pipeline.importers.flickr30k import import_flickr30k
from intertitle.pipeline.importers.folder import import_folder
from intertitle.pipeline.importers.labelled import import_labelled
from intertitle.pipeline.importers.msrvtt import import_msrvtt
from intertitle.pipeline.importers.msvd import import_msvd
from intertitle.pipeline.importers.parallel import import_parallel_files, import_parallel_folder
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.importers.synthetic import render_corpus
from intertitle.pipeline.importers.text import import_text
from intertitle.pipeline.importers.vqa_v2 import import_vqa_v2
from intertitle.pipeline.storage.paths import AnyPath, as_path, is_local

P = TypeVar("P", bound=AnyPath)
# Formats whose SOURCE is one path.
FROM_ONE = {
    "labelled": import_labelled,
    "text": import_text,
    "vqa_v2": import_vqa_v2,
}
# Formats whose SOURCE is a folder, optionally with JSON files to read instead of the folder's own.
FROM_FOLDER_AND_JSON = {
    "coco": import_coco,
    "flickr8k": import_flickr8k,
    "flickr30k": import_flickr30k,
}
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*")
# Formats whose targets are sentences in some language.
WITH_SENTENCES = ("coco", "flickr8k", "flickr30k", "msrvtt", "msvd", "parallel")
# Formats that search a folder at any depth.
SEARCHED = ("folder", "msrvtt", "msvd")
FORMATS = sorted([*FROM_ONE, *FROM_FOLDER_AND_JSON, *SEARCHED, "easy_vqa", "parallel", "rendered"])


def check_languages(format: str, languages: tuple[str | None, str | None]) -> None:
    """Check the codes of the source and the target language of a dataset.

    Raises:
        UserError: the format is unknown or takes no such language, or a code is invalid.
    """
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


def import_dataset(
    format: str,
    source: list[UPath],
    out: AnyPath,
    num_clips: int = 400,
    seed: int = 0,
    languages: tuple[str | None, str | None] = (None, None),
    frame_labels: bool = False,
    follow_links: bool = False,
    animations_as_images: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportReport:
    """Write a corpus from a dataset in one of `FORMATS`.

    Args:
        format: name of the format.
        source: files or folders of the dataset; none for "easy_vqa" and "rendered".
        out: folder or URL of the corpus.
        num_clips: number of clips to draw ("rendered").
        seed: seed of the drawn clips ("rendered").
        languages: codes of the source and the target language, None where unknown.
        frame_labels: whether clips have a label for each frame instead of captions ("rendered").
        follow_links: whether linked folders are searched ("folder", "msrvtt", "msvd").
        animations_as_images: whether an animated image is one image, not a video ("folder").
        on_progress: callback with the number of clips drawn and their total ("rendered").

    Raises:
        UserError: the format is unknown, an option does not apply to it, or a file is invalid.
    """
    check_languages(format, languages)
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
    local_source = [path for path in source if is_local(path)]
    if len(local_source) != len(source):
        raise UserError(f"import {format}: {source}, allowed: a path on this machine")
    if format == "rendered":
        return _render(local_source, out, num_clips, seed, frame_labels, on_progress)
    if format == "msvd":
        report = import_msvd(_only(format, local_source), out, follow_links)
    elif format == "msrvtt":
        report = import_msrvtt(_folder(format, local_source), out, local_source[1:], follow_links)
    else:
        report = _import_published(format, local_source, out, languages)
    target_language = languages[1]
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
    source: list[Path],
    out: AnyPath,
    num_clips: int,
    seed: int,
    frame_labels: bool,
    on_progress: Callable[[int, int], None],
) -> ImportReport:
    _take_no_source("rendered", source)
    folder = as_path(out)
    if not is_local(folder):
        raise UserError(f"import rendered: {out}, allowed: a path on this machine")
    return render_corpus(
        folder,
        num_clips=num_clips,
        seed=seed,
        frame_labels=frame_labels,
        on_progress=on_progress,
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
