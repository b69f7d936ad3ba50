"""easy-VQA (Zhou 2020), straight from the Python package that it was published as.

Its functions give, for train and for test, three lists in step (questions, answers, image ids)
and the path of each image by its id. Both count their images from 0. There is no val: the two
splits stay as they were published.
"""

from __future__ import annotations

import importlib

from pipeline.corpus import Example, Item, write_corpus
from pipeline.errors import UserError
from pipeline.importers.report import ImportReport, report_import
from pipeline.location import AnyPath

SPLITS = ("train", "test")


def import_easy_vqa(out: AnyPath) -> ImportReport:
    """Make a corpus of the drawn images, the questions and their one answer each.

    A key is `<split>/<image id>.png`; an example's id `<split>/<n>`, counted as in the package.

    Raises:
        UserError: the package `easy-vqa` is not installed.
    """
    try:
        package = importlib.import_module("easy_vqa")
    except ModuleNotFoundError as error:
        raise UserError(
            "import easy_vqa: the data set is the package easy-vqa: pip install easy-vqa"
        ) from error
    items: dict[str, Item] = {}
    examples: list[Example] = []
    missing: dict[str, None] = {}
    for split in SPLITS:
        paths: dict[int, str] = getattr(package, f"get_{split}_image_paths")()
        rows = zip(*getattr(package, f"get_{split}_questions")(), strict=True)
        for number, (question, answer, image_id) in enumerate(rows):
            key = f"{split}/{image_id}.png"
            if image_id not in paths:
                missing[key] = None
                continue
            items.setdefault(key, Item(key, paths[image_id], "image"))
            examples.append(Example(f"{split}/{number}", split, key, question, (answer,)))
    return report_import(write_corpus(out, items.values(), examples), missing)
