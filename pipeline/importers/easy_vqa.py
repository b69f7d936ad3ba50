"""easy-VQA (Zhou 2020), straight from the Python package that it was published as.

Its functions give, for train and for test, three lists in step (questions, answers, image ids)
and the path of each image by its id. Both count their images from 0. There is no val: the last
tenth of the train images, with all their questions, becomes it; test stays as it was published.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from pipeline.corpus import Example, Item, write_corpus
from pipeline.errors import UserError
from pipeline.importers.report import ImportReport, report_import
from pipeline.location import AnyPath

SPLITS = ("train", "test")


def import_easy_vqa(out: AnyPath) -> ImportReport:
    """Make a corpus of the drawn images, the questions and their one answer each.

    A key is `<split>/<image id>.png`; an example's id `<split>/<n>`, counted as in the package:
    there `<split>` is train or test, as published, for those of val too.

    Raises:
        UserError: the package `easy-vqa` is not installed.
    """
    try:
        package = importlib.import_module("easy_vqa")
    except ModuleNotFoundError as error:
        raise UserError(
            "import easy_vqa: the data set is the package easy-vqa: pip install easy-vqa"
        ) from error
    held_out = _last_tenth(package.get_train_image_paths())
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
            part = "val" if split == "train" and image_id in held_out else split
            examples.append(Example(f"{split}/{number}", part, key, question, (answer,)))
    notes = ["val: the last tenth of the train images"] if held_out else []
    return report_import(write_corpus(out, items.values(), examples), missing, notes)


def _last_tenth(image_ids: Iterable[int]) -> frozenset[int]:
    """Of the published train images; whole images, for one that was learned from is known."""
    ordered = sorted(image_ids)
    return frozenset(ordered[len(ordered) - len(ordered) // 10 :])
