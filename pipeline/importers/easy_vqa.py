"""Import easy-VQA (Zhou 2020) from the Python package that it was published as.

For train and for test, the package's functions return three lists of equal length (questions,
answers, image ids) and the path of each image by its id. Image ids start at 0 in both splits. There
is no val split: the last tenth of the train images becomes val, with all their questions. The test
split stays as published.
"""

from __future__ import annotations

import importlib

from intertitle.pipeline.corpus import Example, Item, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.declaration import Importer, Sources
from intertitle.pipeline.importers.questions import last_tenth
from intertitle.pipeline.importers.report import ImportReport, count_import
from intertitle.pipeline.storage.paths import AnyPath

SPLITS = ("train", "test")


def import_easy_vqa(out: AnyPath) -> ImportReport:
    """Write a corpus of the drawn images and the questions, with one answer each.

    An item's key is `<split>/<image id>.png` and an example's id is `<split>/<n>`, numbered as in
    the package. In both, `<split>` is the published split, so that it is train for val, too.

    Raises:
        UserError: the package `easy-vqa` is not installed.
    """
    try:
        package = importlib.import_module("easy_vqa")
    except ModuleNotFoundError as error:
        raise UserError(
            "import easy_vqa: the data set is the package easy-vqa: pip install easy-vqa"
        ) from error
    held_out = last_tenth(package.get_train_image_paths())
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
    return count_import(write_corpus(out, items.values(), examples), missing, notes)


IMPORTER = Importer(
    "easy_vqa",
    import_easy_vqa,
    Sources.NONE,
    "",
    "the Python package easy-vqa",
)
