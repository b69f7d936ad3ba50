"""Import COCO-QA, DAQUAR, FVQA and A-OKVQA: questions about photographs.

COCO-QA (Ren et al. 2015)
  {train,test}/{questions,answers,img_ids,types}.txt       a line for each question
  {train2014,val2014}/COCO_train2014_000000000123.jpg      COCO's photographs, see `find_coco`
DAQUAR (Malinowski & Fritz 2014)
  qa.894.raw.{train,test}.txt                              or qa.37.raw.*: question, answer, ...
  nyu_depth_images/image3.png                              or images/
FVQA (Wang et al. 2017)
  new_dataset_release/all_qs_dict_release.json             {id: {"question", "answer", ...}}
  Name_Lists/{train,test}_list_0.txt                       names of photographs; 0 to 4
  new_dataset_release/images/COCO_val2014_000000000123.jpg
A-OKVQA (Schwenk et al. 2022)
  aokvqa_v1p0_{train,val}.json                             [{"question", "direct_answers", ...}]
  {train2017,val2017}/000000000123.jpg                     COCO's photographs, see `find_coco`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.declaration import Importer, Option, Sources
from intertitle.pipeline.importers.parsing import (
    JsonRecord,
    find_file,
    folder_of,
    format_value,
    lines,
    read_json,
    read_json_list,
)
from intertitle.pipeline.importers.questions import (
    HELD_OUT,
    Question,
    coco_name,
    find_coco,
    hold_out_val,
    write_questions,
)
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.storage.paths import AnyPath

# COCO-QA takes the questions of each of its splits from one of COCO's.
_COCO_PARTS = {"train": "train2014", "test": "val2014"}
_COCO_QA_FILES = ("questions", "answers", "img_ids", "types")
# Kinds of COCO-QA's questions by the number in types.txt.
_COCO_QA_KINDS = ("object", "number", "color", "location")
# DAQUAR's answers of all 894 classes, or of the 37 commonest.
_DAQUAR_CLASSES = (894, 37)
_DAQUAR_IMAGE = re.compile(r"\bimage ?(\d+)\b")
# The end of most of DAQUAR's questions, which says nothing about the photograph.
_DAQUAR_END = re.compile(r"(?: (?:in|of|on))?(?: the| this)? image ?\d+ \?$")
_NUM_FOLDS = 5


def import_coco_qa(source: Path, out: AnyPath) -> ImportReport:
    """Write a corpus of COCO-QA.

    The id of an example is `<split>/<line>` of the published split, and the kind of a question is
    object, number, color or location.

    Raises:
        UserError: a file is missing, they have different numbers of lines, or a line can't be read;
            or see `write_questions`.
    """
    folder = folder_of(source)
    questions = [q for split in _COCO_PARTS for q in _read_coco_qa(folder, split)]
    return write_questions(source, out, hold_out_val(questions), [HELD_OUT])


def _read_coco_qa(source: Path, split: str) -> Iterator[Question]:
    files = [source / split / f"{name}.txt" for name in _COCO_QA_FILES]
    part = _COCO_PARTS[split]
    for rows in zip_longest(*map(lines, files)):
        if None in rows:
            file = files[rows.index(None)]
            number = next(row for row in rows if row is not None)[0]
            raise UserError(f"{file}: line {number}: missing, but other files have it")
        number = rows[0][0]
        text, answer, image_id, kind = (row[1].strip() for row in rows)
        wheres = [f"{file}: line {number}" for file in files]
        name = coco_name(part, _number(image_id, wheres[2]))
        index = _number(kind, wheres[3])
        if index >= len(_COCO_QA_KINDS):
            raise UserError(f"{wheres[3]}: {kind}, allowed: 0 to {len(_COCO_QA_KINDS) - 1}")
        yield Question(
            f"{split}/{number}",
            split,
            name,
            find_coco(source, part, name, wheres[2]),
            text,
            wheres[0],
            [answer],
            wheres[1],
            _COCO_QA_KINDS[index],
        )


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"{where}: {format_value(text)}, expected a whole number")
    return int(text)


def import_daquar(source: Path, out: AnyPath) -> ImportReport:
    """Write a corpus of DAQUAR.

    The id of an example is `<split>/<line of the question>` of the published split. The words
    "in the image3" at the end of a question, which name its photograph, are left out. An answer of
    several words is one target, such as "book, scissor".

    Raises:
        UserError: there are no questions, a question names no photograph or has no answer; or see
            `write_questions`.
    """
    folder = folder_of(source)
    for classes in _DAQUAR_CLASSES:
        files = {split: folder / f"qa.{classes}.raw.{split}.txt" for split in ("train", "test")}
        if any(file.is_file() for file in files.values()):
            break
    else:
        raise UserError(f"{source}: has no qa.894.raw.train.txt or qa.37.raw.train.txt")
    questions = [q for split, file in files.items() for q in _read_daquar(folder, split, file)]
    notes = [f"the questions with {classes} classes of answers", HELD_OUT]
    return write_questions(source, out, hold_out_val(questions), notes)


def _read_daquar(source: Path, split: str, file: Path) -> Iterator[Question]:
    folders = [source / "nyu_depth_images", source / "images"]
    rows = lines(file)
    for number, published in rows:
        where = f"{file}: line {number}"
        published = published.strip()
        image = _DAQUAR_IMAGE.search(published)
        if image is None:
            raise UserError(f"{where}: {format_value(published)} names no photograph, as image3")
        line, answer = next(rows, (number + 1, ""))
        name = f"image{image[1]}.png"
        yield Question(
            f"{split}/{number}",
            split,
            name,
            find_file(folders, name, where),
            _DAQUAR_END.sub(" ?", published),
            where,
            [answer.strip()],
            f"{file}: line {line}",
        )


def import_fvqa(source: Path, out: AnyPath, fold: int = 0) -> ImportReport:
    """Write a corpus of FVQA.

    The kind of a question says where its answer is: image or kb (knowledge base).

    Args:
        source: folder of the data set.
        out: path or URL of the corpus.
        fold: one of the five published divisions into train and test, from 0 to 4.

    Raises:
        UserError: the fold is none of these, a file is missing, or a record can't be read or is
            about a photograph in no list; or see `write_questions`.
    """
    if fold not in range(_NUM_FOLDS):
        raise UserError(f"import fvqa: --fold {fold}, allowed: 0 to {_NUM_FOLDS - 1}")
    folder = folder_of(source)
    splits = {
        name.strip(): split
        for split in ("train", "test")
        for _, name in lines(folder / "Name_Lists" / f"{split}_list_{fold}.txt")
    }
    questions = list(_read_fvqa(folder / "new_dataset_release", splits, fold))
    return write_questions(source, out, hold_out_val(questions), [HELD_OUT])


def _read_fvqa(release: Path, splits: dict[str, str], fold: int) -> Iterator[Question]:
    data = read_json(release / "all_qs_dict_release.json")
    for id in data.values:
        record = JsonRecord(data.file, id, data.get(id, dict))
        name, where = record.get("img_file", str), record.at("img_file")
        if name not in splits:
            raise UserError(f"{where}: {format_value(name)} is in no list of fold {fold}")
        yield Question(
            id,
            splits[name],
            name,
            find_file([release / "images"], name, where),
            record.get("question", str),
            record.at("question"),
            [record.get("answer", str)],
            record.at("answer"),
            record.get("ans_source", str),
        )


def import_a_okvqa(source: Path, out: AnyPath) -> ImportReport:
    """Write a corpus of A-OKVQA, with ten direct answers to each question.

    The published splits are used, but for test, whose answers were never published.

    Raises:
        UserError: there are no questions, or a record can't be read; or see `write_questions`.
    """
    splits = {split: folder_of(source) / f"aokvqa_v1p0_{split}.json" for split in ("train", "val")}
    files = {split: file for split, file in splits.items() if file.is_file()}
    if not files:
        raise UserError(f"{source}: has no aokvqa_v1p0_train.json or aokvqa_v1p0_val.json")
    questions = (q for split, file in files.items() for q in _read_a_okvqa(source, split, file))
    return write_questions(source, out, questions)


def _read_a_okvqa(source: Path, split: str, file: Path) -> Iterator[Question]:
    for record in read_json_list(file):
        name = f"{record.get('image_id', int):012}.jpg"
        answers, where = record.get("direct_answers", list), record.at("direct_answers")
        if not all(isinstance(answer, str) for answer in answers):
            raise UserError(f"{where}: {format_value(answers)}, expected texts")
        yield Question(
            record.get("question_id", str),
            split,
            name,
            find_coco(source, f"{split}2017", name, record.at("image_id")),
            record.get("question", str),
            record.at("question"),
            answers,
            where,
        )


COCO_QA = Importer(
    "coco_qa", import_coco_qa, Sources.ONE, "FOLDER", "questions made from COCO's captions"
)
DAQUAR = Importer("daquar", import_daquar, Sources.ONE, "FOLDER", "questions about photos of rooms")
FVQA = Importer(
    "fvqa",
    import_fvqa,
    Sources.ONE,
    "FOLDER",
    "questions whose answers need a fact",
    options=(Option("fold", "Published division into train and test, 0 to 4; default: 0", int),),
)
A_OKVQA = Importer(
    "a_okvqa", import_a_okvqa, Sources.ONE, "FOLDER", "questions that need knowledge, ten answers"
)
