"""Import VQA v2 (Goyal et al. 2017) and OK-VQA (Marino et al. 2019): questions about COCO's
photographs, with ten answers each.

SOURCE/, or its folders Questions/, Annotations/ and Images/, as in the authors' repository
  v2_OpenEnded_mscoco_{train2014,val2014}_questions.json
      {"questions": [{"question_id", "image_id", "question"}], ...}
  v2_mscoco_{train2014,val2014}_annotations.json
      {"annotations": [{"question_id", "image_id", "answers": [{"answer", ...}], ...}], ...}
  {train2014,val2014}/COCO_train2014_000000000123.jpg      COCO's photographs, see `find_coco`

The names of OK-VQA's files lack the `v2_`. The questions of test2015 and test-dev2015 are left out,
because their answers were never published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.declaration import Importer, Sources
from intertitle.pipeline.importers.parsing import (
    JsonRecord,
    by_id,
    find_file,
    folder_of,
    read_json,
)
from intertitle.pipeline.importers.questions import (
    Question,
    coco_name,
    find_coco,
    write_questions,
)
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.storage.paths import AnyPath

# Name of the split by the published name of each part that has answers.
SPLITS = {"train2014": "train", "val2014": "val"}
NUM_ANSWERS = 10


def import_vqa(prefix: str, source: Path, out: AnyPath) -> ImportReport:
    """Write a corpus of photographs, questions and answers.

    An example is one question. Its targets are the ten answers in their order, with repetitions,
    because the metric counts how many people agree. An item's key is the name of the photograph's
    file. The kind of a question is its `question_type`.

    Args:
        prefix: beginning of the names of the files, "v2_" or "".
        source: folder of the data set.
        out: path or URL of the corpus.

    Raises:
        UserError: there are no questions, a question has no answer, an answer has no question, or
            a record can't be read.
    """
    files = _questions_files(folder_of(source), prefix)
    if not files.keys() & SPLITS.keys():
        raise UserError(
            f"{source}: no photographs with questions; needs train2014/ or val2014/ with "
            f"{prefix}OpenEnded_mscoco_*_questions.json and {prefix}mscoco_*_annotations.json"
        )
    questions = [
        question
        for part, split in SPLITS.items()
        if part in files
        for question in _read_part(source, files[part], prefix, part, split)
    ]
    notes = [f"{p} left out: its answers are not published" for p in files if p not in SPLITS]
    num_others = sum(len([*filter(str.strip, q.answers)]) != NUM_ANSWERS for q in questions)
    if num_others:
        notes.append(f"{num_others} questions have another number of answers than {NUM_ANSWERS}")
    return write_questions(source, out, questions, notes)


def _questions_files(source: Path, prefix: str) -> dict[str, Path]:
    name = re.compile(rf"{prefix}OpenEnded_mscoco_(?P<part>.+)_questions\.json")
    folders = [folder for folder in (source, source / "Questions") if folder.is_dir()]
    files = [file for folder in folders for file in sorted(folder.iterdir())]
    return {m["part"]: f for f in files if (m := name.fullmatch(f.name))}


def _read_part(source: Path, file: Path, prefix: str, part: str, split: str) -> Iterator[Question]:
    questions = by_id(read_json(file).records("questions"), "question_id", int)
    annotations = _read_annotations(source, f"{prefix}mscoco_{part}_annotations.json", questions)
    # Several questions are about one photograph, which is looked for in several places.
    paths: dict[str, Path | None] = {}
    for question_id, question in questions.items():
        if question_id not in annotations:
            raise UserError(f"{question.where}: question {question_id} has no answer")
        annotation, where = annotations[question_id], question.at("question")
        name = coco_name(part, question.get("image_id", int))
        if name not in paths:
            paths[name] = find_coco(source, part, name, where)
        yield Question(
            str(question_id),
            split,
            name,
            paths[name],
            question.get("question", str),
            where,
            [answer.get("answer", str) for answer in annotation.records("answers")],
            annotation.at("answers"),
            annotation.get("question_type", str),
        )


def _read_annotations(
    source: Path, name: str, questions: Mapping[int, JsonRecord]
) -> dict[int, JsonRecord]:
    file = find_file([source, source / "Annotations"], name, str(source)) or source / name
    annotations = by_id(read_json(file).records("annotations"), "question_id", int)
    for question_id, annotation in annotations.items():
        question = questions.get(question_id)
        if question is None:
            where = annotation.at("question_id")
            raise UserError(f"{where}: {question_id} is not in questions")
        if annotation.get("image_id", int) != question.get("image_id", int):
            where = annotation.at("image_id")
            raise UserError(f"{where}: not the image of question {question_id}")
    return annotations


VQA_V2 = Importer(
    "vqa_v2",
    partial(import_vqa, "v2_"),
    Sources.ONE,
    "FOLDER",
    "questions and answers about COCO's photographs",
)
OK_VQA = Importer(
    "ok_vqa",
    partial(import_vqa, ""),
    Sources.ONE,
    "FOLDER",
    "questions about COCO's photographs that need knowledge",
)
