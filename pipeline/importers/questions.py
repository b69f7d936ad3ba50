"""Write a corpus of questions about photographs; shared by all data sets of questions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from intertitle.pipeline.corpus import Example, Item, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.base import image_item
from intertitle.pipeline.importers.parsing import check_caption, find_file, format_value
from intertitle.pipeline.importers.report import ImportReport, count_import
from intertitle.pipeline.storage.paths import AnyPath, as_path, atomic_write

# Table of the kinds of the questions in the folder of the corpus, for `evaluate --by`.
KINDS_FILE = "kinds.csv"
# Note of an import that calls `hold_out_val`.
HELD_OUT = "val: the last tenth of the train photographs"

Name = TypeVar("Name", int, str)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a photograph, as a data set has it.

    Attributes:
        id: id of the example.
        split: split of the example.
        photograph: name of the photograph's file, which is the key of the item.
        path: path of the photograph, or None if it is missing.
        text: the question.
        where: place of its text, for messages.
        answers: answers, with a repetition for each person who gave the same one.
        answers_where: place of the answers, for messages.
        kind: kind of the question, or None if the data set does not say it.
    """

    id: str
    split: str
    photograph: str
    path: Path | None
    text: str
    where: str
    answers: Sequence[str]
    answers_where: str
    kind: str | None = None


def write_questions(
    source: Path, out: AnyPath, questions: Iterable[Question], notes: Sequence[str] = ()
) -> ImportReport:
    """Write a corpus of photographs, questions and answers.

    An example is one question. Questions about missing photographs are left out and the photographs
    reported. Empty answers are left out and counted. The kinds of the questions become the table
    `kinds.csv` in the corpus, with the columns `id` and `kind`.

    Raises:
        UserError: a question is empty or has no answer, or all photographs are missing.
    """
    items: dict[str, Item] = {}
    examples: list[Example] = []
    missing: dict[str, None] = {}
    kinds: list[tuple[str, str]] = []
    num_empty = 0
    for question in questions:
        if not check_caption(question.text, question.where):
            raise UserError(f"{question.where}: {format_value(question.text)}, expected a question")
        where = question.answers_where
        answers = tuple(text for text in question.answers if check_caption(text, where))
        if not answers:
            raise UserError(f"{where}: question {question.id} has no answer")
        num_empty += len(question.answers) - len(answers)
        name = question.photograph
        item = items.get(name) or image_item(name, question.path)
        if item is None:
            missing[name] = None
            continue
        items[name] = item
        examples.append(Example(question.id, question.split, name, question.text, answers))
        if question.kind is not None:
            kinds.append((question.id, question.kind))
    if not items:
        first = f", the first is {next(iter(missing))!r}" if missing else ""
        raise UserError(f"{source}: has none of the {len(missing)} photographs named{first}")
    notes = [*notes, *([f"{num_empty} empty answers left out"] if num_empty else [])]
    corpus = write_corpus(out, items.values(), examples)
    return count_import(corpus, missing, [*notes, *write_kinds(out, kinds)])


def write_kinds(out: AnyPath, kinds: Sequence[tuple[str, str]]) -> list[str]:
    """Write the table of the kinds of questions, if there are any.

    Args:
        out: path or URL of the corpus.
        kinds: id and kind of each question that has one.

    Returns:
        Notes for the user.
    """
    if not kinds:
        return []
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "kind"), *kinds])
    content = text.getvalue().encode()
    table = as_path(out) / KINDS_FILE
    atomic_write(table, lambda file: file.write(content))
    return [f"kinds of questions: evaluate --by {table}:kind"]


def hold_out_val(questions: Sequence[Question]) -> list[Question]:
    """Move the questions about the last tenth of the train photographs, by name, to val.

    For data sets that are published without a val split.
    """
    held_out = last_tenth({q.photograph for q in questions if q.split == "train"})
    return [
        replace(q, split="val") if q.split == "train" and q.photograph in held_out else q
        for q in questions
    ]


def last_tenth(names: Iterable[Name]) -> frozenset[Name]:
    """Return the last tenth of the names of images, in sorted order.

    An image is never divided between splits: a model would know it from training.
    """
    ordered = sorted(names)
    return frozenset(ordered[len(ordered) - len(ordered) // 10 :])


def coco_name(part: str, image_id: int) -> str:
    """Return the name of a photograph's file in COCO of 2014, such as part "train2014"."""
    return f"COCO_{part}_{image_id:012}.jpg"


def find_coco(source: Path, part: str, name: str, where: str) -> Path | None:
    """Return the path of one of COCO's photographs, or None if it is missing.

    It is looked for in PART/, images/PART/, Images/PART/ and Images/mscoco/PART/, of which the last
    is the layout of VQA's repository.
    """
    parents = (source, source / "images", source / "Images", source / "Images" / "mscoco")
    return find_file([parent / part for parent in parents], name, where)
