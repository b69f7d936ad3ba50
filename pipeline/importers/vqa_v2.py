"""Import VQA v2 (Goyal et al. 2017): questions on COCO's photographs, with ten answers each.

SOURCE/, or its folders Questions/, Annotations/ and Images/, as in the authors' repository
  v2_OpenEnded_mscoco_{train2014,val2014}_questions.json
      {"questions": [{"question_id", "image_id", "question"}], ...}
  v2_mscoco_{train2014,val2014}_annotations.json
      {"annotations": [{"question_id", "image_id", "answers": [{"answer", ...}], ...}], ...}
  {train2014,val2014}/COCO_train2014_000000000123.jpg

The questions of test2015 and test-dev2015 are left out, because their answers were never published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from intertitle.pipeline.corpus import Example, Item, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.base import image_item
from intertitle.pipeline.importers.declaration import Importer, Sources
from intertitle.pipeline.importers.parsing import (
    JsonRecord,
    by_id,
    check_caption,
    find_file,
    folder_of,
    format_value,
    read_json,
)
from intertitle.pipeline.importers.report import ImportReport, count_import
from intertitle.pipeline.storage.paths import AnyPath

# Name of the split by the published name of each part that has answers.
SPLITS = {"train2014": "train", "val2014": "val"}
NUM_ANSWERS = 10

_QUESTIONS_FILE = re.compile(r"v2_OpenEnded_mscoco_(?P<part>.+)_questions\.json")


def import_vqa_v2(source: Path, out: AnyPath) -> ImportReport:
    """Write a corpus of photographs, questions and answers.

    An example is one question. Its targets are the ten answers in their order, with repetitions,
    because the metric counts how many people agree. An item's key is the name of the photograph's
    file.

    Raises:
        UserError: there are no questions, a question has no answer, an answer has no question, or
            a record can't be read.
    """
    questions = _questions_files(folder_of(source))
    read = _Read()
    for part, split in SPLITS.items():
        if part in questions:
            _read_part(source, questions[part], part, split, read)
    if not read.items:
        raise UserError(
            f"{source}: no photographs with questions; needs train2014/ or val2014/ with "
            "v2_OpenEnded_mscoco_*_questions.json and v2_mscoco_*_annotations.json"
        )
    notes = [f"{p} left out: its answers are not published" for p in questions if p not in SPLITS]
    num_others = sum(len(example.targets) != NUM_ANSWERS for example in read.examples)
    if num_others:
        notes.append(f"{num_others} questions have another number of answers than {NUM_ANSWERS}")
    if read.num_empty:
        notes.append(f"{read.num_empty} empty answers left out")
    corpus = write_corpus(out, read.items.values(), read.examples)
    return count_import(corpus, read.missing, notes)


@dataclass(slots=True)
class _Read:
    """Items and examples read so far; the dictionaries are in the order of first mention."""

    items: dict[str, Item] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    missing: dict[str, None] = field(default_factory=dict)
    num_empty: int = 0


def _questions_files(source: Path) -> dict[str, Path]:
    folders = [folder for folder in (source, source / "Questions") if folder.is_dir()]
    files = [file for folder in folders for file in sorted(folder.iterdir())]
    return {m["part"]: f for f in files if (m := _QUESTIONS_FILE.fullmatch(f.name))}


def _read_part(source: Path, file: Path, part: str, split: str, read: _Read) -> None:
    questions = by_id(read_json(file).records("questions"), "question_id", int)
    answers = _read_answers(source, part, questions, read)
    images = source / "Images"
    folders = [source / part, images / part, images / "mscoco" / part]
    for question_id, question in questions.items():
        name = f"COCO_{part}_{question.get('image_id', int):012}.jpg"
        if question_id not in answers:
            raise UserError(f"{question.where}: question {question_id} has no answer")
        text, where = question.get("question", str), question.at("question")
        if not check_caption(text, where):
            raise UserError(f"{where}: {format_value(text)}, expected a question")
        if name not in read.items and name not in read.missing:
            item = image_item(name, find_file(folders, name, where))
            if item is None:
                read.missing[name] = None
            else:
                read.items[name] = item
        if name in read.items:
            read.examples.append(Example(str(question_id), split, name, text, answers[question_id]))


def _read_answers(
    source: Path, part: str, questions: Mapping[int, JsonRecord], read: _Read
) -> dict[int, tuple[str, ...]]:
    name = f"v2_mscoco_{part}_annotations.json"
    file = find_file([source, source / "Annotations"], name, str(source)) or source / name
    answers: dict[int, tuple[str, ...]] = {}
    annotations = by_id(read_json(file).records("annotations"), "question_id", int)
    for question_id, annotation in annotations.items():
        question = questions.get(question_id)
        if question is None:
            where = annotation.at("question_id")
            raise UserError(f"{where}: {question_id} is not in questions")
        if annotation.get("image_id", int) != question.get("image_id", int):
            where = annotation.at("image_id")
            raise UserError(f"{where}: not the image of question {question_id}")
        texts = [(a.get("answer", str), a.at("answer")) for a in annotation.records("answers")]
        answers[question_id] = tuple(text for text, where in texts if check_caption(text, where))
        if not answers[question_id]:
            raise UserError(f"{annotation.at('answers')}: question {question_id} has no answer")
        read.num_empty += len(texts) - len(answers[question_id])
    return answers


IMPORTER = Importer(
    "vqa_v2",
    import_vqa_v2,
    Sources.ONE,
    "FOLDER",
    "questions and answers about COCO's photographs",
)
