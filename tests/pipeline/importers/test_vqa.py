"""VQA v2 and OK-VQA in their published layouts become corpora."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from intertitle.pipeline.corpus import Corpus, Example, Item
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.vqa import OK_VQA, VQA_V2

ANSWERS = ["net", "net", "net", "netting", "net", "net", "mesh", "net", "net", "net"]
QUESTIONS_FILE = "v2_OpenEnded_mscoco_train2014_questions.json"
ANSWERS_FILE = "v2_mscoco_train2014_annotations.json"


def questions(part: str, *asked: tuple[int, int, str]) -> dict[str, Any]:
    rows = [{"image_id": i, "question": q, "question_id": n} for n, i, q in asked]
    return {
        "info": {"description": "This is v2.0 of the VQA dataset.", "version": "2.0"},
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "license": {"url": "http://creativecommons.org/licenses/by/4.0/"},
        "data_subtype": part,
        "questions": rows,
    }


def annotations(part: str, *answered: tuple[int, int, list[str]]) -> dict[str, Any]:
    rows = [
        {
            "question_type": "what is this",
            "multiple_choice_answer": said[0],
            "answers": [
                {"answer": text, "answer_confidence": "maybe", "answer_id": index}
                for index, text in enumerate(said, start=1)
            ],
            "image_id": image_id,
            "answer_type": "other",
            "question_id": question_id,
        }
        for question_id, image_id, said in answered
    ]
    return {"info": {}, "license": {}, "data_subtype": part, "annotations": rows}


def photograph(part: str, image_id: int) -> str:
    return f"{part}/COCO_{part}_{image_id:012}.jpg"


TRAIN_QUESTIONS = questions(
    "train2014",
    (458752000, 458752, "What is this photo taken looking through?"),
    (458752001, 458752, "What position is this man playing?"),
    (262146000, 262146, "What color is the snow?"),
)
# In another order than the questions.
TRAIN_ANSWERS = annotations(
    "train2014",
    (262146000, 262146, ["white"] * 10),
    (458752000, 458752, ANSWERS),
    (458752001, 458752, ["pitcher"] * 9 + [""]),
)
PUBLISHED: dict[str, object] = {
    QUESTIONS_FILE: TRAIN_QUESTIONS,
    ANSWERS_FILE: TRAIN_ANSWERS,
    photograph("train2014", 458752): None,
    photograph("train2014", 262146): None,
}


def test_photographs_questions_and_answers_are_taken_over(lay_out, tmp_path: Path) -> None:
    source = lay_out(PUBLISHED)
    report = VQA_V2.function(source, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    keys = ["COCO_train2014_000000458752.jpg", "COCO_train2014_000000262146.jpg"]
    assert corpus.items() == [Item(k, str(source / "train2014" / k), "image") for k in keys]
    asked = [row["question"] for row in TRAIN_QUESTIONS["questions"]]
    assert corpus.examples() == [
        Example("458752000", "train", keys[0], asked[0], tuple(ANSWERS)),
        Example("458752001", "train", keys[0], asked[1], ("pitcher",) * 9),
        Example("262146000", "train", keys[1], asked[2], ("white",) * 10),
    ]
    assert (report.items, report.examples, report.references) == (2, 3, 29)
    assert "1 empty answers left out" in report.notes
    assert "1 questions have another number of answers than 10" in report.notes


def test_the_authors_folders_are_known_and_a_test_without_answers_is_left_out(
    lay_out, tmp_path: Path
) -> None:
    source = lay_out(
        {
            "Questions/v2_OpenEnded_mscoco_val2014_questions.json": questions(
                "val2014", (1, 42, "Why?")
            ),
            "Annotations/v2_mscoco_val2014_annotations.json": annotations(
                "val2014", (1, 42, ["yes"] * 10)
            ),
            "Questions/v2_OpenEnded_mscoco_test-dev2015_questions.json": questions("test2015"),
            f"Images/mscoco/{photograph('val2014', 42)}": None,
        }
    )
    report = VQA_V2.function(source, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert [item.uri for item in corpus.items()] == [
        str(source / "Images/mscoco" / photograph("val2014", 42))
    ]
    assert [(e.id, e.split) for e in corpus.examples()] == [("1", "val")]
    assert "test-dev2015 left out: its answers are not published" in report.notes


def test_ok_vqa_has_the_layout_without_the_version(lay_out, tmp_path: Path) -> None:
    source = lay_out({name.removeprefix("v2_"): content for name, content in PUBLISHED.items()})
    OK_VQA.function(source, tmp_path / "corpus")
    VQA_V2.function(lay_out(PUBLISHED), tmp_path / "v2")
    assert Corpus(tmp_path / "corpus").fingerprint() == Corpus(tmp_path / "v2").fingerprint()
    kinds = (tmp_path / "corpus" / "kinds.csv").read_text().splitlines()
    assert kinds[:2] == ["id,kind", "458752000,what is this"]


def test_an_absent_photograph_is_reported_once(lay_out, tmp_path: Path) -> None:
    source = lay_out(PUBLISHED)
    (source / photograph("train2014", 458752)).unlink()
    report = VQA_V2.function(source, tmp_path / "corpus")
    assert report.missing == ("COCO_train2014_000000458752.jpg",)
    assert (report.items, report.examples) == (1, 1)


@pytest.mark.parametrize(
    ("file", "path", "value", "message"),
    [
        (ANSWERS_FILE, [0, "question_id"], 7, r"annotations\[0\]\.question_id: 7 is not in quest"),
        (ANSWERS_FILE, [0, "image_id"], 7, r"annotations\[0\]\.image_id: not the image of"),
        (ANSWERS_FILE, [1, "question_id"], 262146000, r"annotations\[1\].*262146000 is taken by"),
        (ANSWERS_FILE, [0, "answers"], [], r"annotations\[0\]\.answers: question 262146000 has no"),
        (ANSWERS_FILE, [0, "answers", 3], {}, r"annotations\[0\]\.answers\[3\]\.answer: missing"),
        (QUESTIONS_FILE, [1, "question_id"], 458752000, r"questions\[1\].* is taken by .*\[0\]"),
        (QUESTIONS_FILE, [1, "question"], " ", r"questions\[1\]\.question: ' ', expected a quest"),
        (QUESTIONS_FILE, [1, "image_id"], "7", r"questions\[1\]\.image_id: '7', expected a whole"),
    ],
)
def test_what_is_wrong_is_named(
    file: str, path: list[Any], value: object, message: str, lay_out, tmp_path: Path
) -> None:
    content = copy.deepcopy(PUBLISHED[file])
    at: Any = content
    for step in ["annotations" if file == ANSWERS_FILE else "questions", *path[:-1]]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(UserError, match=f"{file}: {message}"):
        VQA_V2.function(lay_out({**PUBLISHED, file: content}), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_question_without_an_answer_is_named(lay_out, tmp_path: Path) -> None:
    answers = annotations("train2014", (458752000, 458752, ANSWERS))
    with pytest.raises(UserError, match=r"questions\[1\]: question 458752001 has no answer"):
        VQA_V2.function(lay_out({**PUBLISHED, ANSWERS_FILE: answers}), tmp_path / "corpus")


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        (QUESTIONS_FILE, "no photographs with questions; needs train2014/ or val2014/"),
        (ANSWERS_FILE, f"{ANSWERS_FILE}: missing"),
    ],
)
def test_a_source_without_the_published_files_is_refused(
    absent: str, message: str, lay_out, tmp_path: Path
) -> None:
    source = lay_out(PUBLISHED)
    (source / absent).unlink()
    with pytest.raises(UserError, match=message):
        VQA_V2.function(source, tmp_path / "corpus")
