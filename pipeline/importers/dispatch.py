"""The importers by their names, and the import of a dataset by the name of its format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from upath import UPath

from intertitle.pipeline.corpus import name_target_language
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.declaration import TARGET_LANGUAGE, Importer, Option, Sources
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.plugins import Registry
from intertitle.pipeline.storage.paths import AnyPath, is_local

_HERE = "intertitle.pipeline.importers"
IMPORTERS = Registry(
    "intertitle.importers",
    "importer",
    Importer,
    {
        "a_okvqa": f"{_HERE}.question_sets:A_OKVQA",
        "coco": f"{_HERE}.coco:IMPORTER",
        "coco_qa": f"{_HERE}.question_sets:COCO_QA",
        "daquar": f"{_HERE}.question_sets:DAQUAR",
        "easy_vqa": f"{_HERE}.easy_vqa:IMPORTER",
        "flickr30k": f"{_HERE}.flickr30k:IMPORTER",
        "flickr8k": f"{_HERE}.flickr8k:IMPORTER",
        "folder": f"{_HERE}.folder:IMPORTER",
        "fvqa": f"{_HERE}.question_sets:FVQA",
        "hf": f"{_HERE}.hf:IMPORTER",
        "labelled": f"{_HERE}.labelled:IMPORTER",
        "msrvtt": f"{_HERE}.msrvtt:IMPORTER",
        "msvd": f"{_HERE}.msvd:IMPORTER",
        "ok_vqa": f"{_HERE}.vqa:OK_VQA",
        "parallel": f"{_HERE}.parallel:IMPORTER",
        "rendered": f"{_HERE}.synthetic.write:IMPORTER",
        "table": f"{_HERE}.table.importer:IMPORTER",
        "text": f"{_HERE}.text:IMPORTER",
        "vqa_v2": f"{_HERE}.vqa:VQA_V2",
        "webdataset": f"{_HERE}.webdataset:IMPORTER",
    },
)
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*")


def load_importer(format: str) -> Importer:
    """Return an importer by its name.

    Raises:
        UserError: there is none, or the package that adds it can't be imported.
    """
    return IMPORTERS.load(format, "import")


def options_of(importers: Mapping[str, Importer]) -> list[tuple[Option, list[str]]]:
    """Return the options of importers, each with the names of the importers that take it."""
    options = {o.name: o for importer in importers.values() for o in importer.options}
    options[TARGET_LANGUAGE.name] = TARGET_LANGUAGE
    return [
        (option, [name for name, importer in importers.items() if importer.takes(option.name)])
        for option in options.values()
    ]


def given_options(format: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have a value, after checking that the importer takes them.

    Args:
        format: name of the format.
        options: options by name; None, False and an empty list are no value.

    Raises:
        UserError: the format is unknown or takes no such option, or a language is not a code.
    """
    importer = load_importer(format)
    values = {n: v for n, v in options.items() if v is not None and v is not False and v != []}
    for name in values:
        if not importer.takes(name):
            takers = [n for n, i in IMPORTERS.load_all()[0].items() if i.takes(name)]
            allowed = f", allowed for {', '.join(takers)}" if takers else ""
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"import {format}: takes no {flag}{allowed}")
    language = values.get(TARGET_LANGUAGE.name)
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise UserError(
            f"import {format}: --target-language {language}, allowed: a code, as en, zh or pt_BR"
        )
    return values


def import_dataset(
    format: str,
    source: Sequence[UPath],
    out: AnyPath,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> ImportReport:
    """Write a corpus from a dataset.

    Args:
        format: name of an importer.
        source: files or folders of the dataset; none for "easy_vqa" and "rendered".
        out: folder or URL of the corpus.
        on_progress: callback with the numbers done and in total, for importers that report them.
        options: options of the importer.

    Raises:
        UserError: the format is unknown, an option does not apply to it, or a file is invalid.
    """
    importer = load_importer(format)
    values = given_options(format, options)
    arguments = {o.name: values[o.name] for o in importer.options if o.name in values}
    if importer.progress is not None:
        arguments["on_progress"] = on_progress
    report = importer.function(*_positional(importer, source, out), **arguments)
    if TARGET_LANGUAGE.name in values:
        name_target_language(out, values[TARGET_LANGUAGE.name])
    return report


def _positional(importer: Importer, source: Sequence[UPath], out: AnyPath) -> list[Any]:
    where = f"import {importer.name}"
    if importer.sources is Sources.NONE and source:
        raise UserError(f"{where}: takes no SOURCE, got {source[0]}")
    if importer.sources is Sources.ONE and len(source) != 1:
        raise UserError(f"{where}: takes one SOURCE, got {len(source)}")
    if importer.sources is Sources.FOLDER_AND_FILES and not source:
        raise UserError(f"{where}: takes a SOURCE folder, got none")
    if not importer.urls and not all(is_local(path) for path in source):
        raise UserError(f"{where}: {source}, allowed: a path on this machine")
    match importer.sources:
        case Sources.NONE:
            return [out]
        case Sources.ONE:
            return [source[0], out]
        case Sources.FOLDER_AND_FILES:
            return [source[0], out, list(source[1:])]
        case Sources.MANY:
            return [list(source), out]
