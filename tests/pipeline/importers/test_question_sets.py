"""COCO-QA, DAQUAR, FVQA and A-OKVQA in their published layouts become corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intertitle.pipeline.corpus import Corpus, Example
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.dispatch import import_dataset
from intertitle.pipeline.storage.paths import as_path
from tests.pipeline.importers.conftest import Lay

COCO_QA: dict[str, object] = {
    "train/questions.txt": "what is the color of the horses \nhow many cats are there \n",
    "train/answers.txt": "brown\ntwo\n",
    "train/img_ids.txt": "23004\n7\n",
    "train/types.txt": "2\n1\n",
    "test/questions.txt": "what is on the bed \n",
    "test/answers.txt": "cat\n",
    "test/img_ids.txt": "42\n",
    "test/types.txt": "0\n",
    "train2014/COCO_train2014_000000023004.jpg": None,
    "images/val2014/COCO_val2014_000000000042.jpg": None,
}
DAQUAR: dict[str, object] = {
    "qa.894.raw.train.txt": "what is on the desk in the image3 ?\nbook, scissor\n"
    "what is behind the image3 of a cat image3 ?\nwall\n",
    "qa.894.raw.test.txt": "what is the color of the sofa of the image12 ?\nred\n",
    "qa.37.raw.train.txt": "what is it in the image3 ?\nbook\n",
    "nyu_depth_images/image3.png": None,
    "nyu_depth_images/image12.png": None,
}
FACT = {
    "question": "Which object in this image has a tail",
    "answer": "kite",
    "img_file": "COCO_val2014_000000005599.jpg",
    "ans_source": "image",
    "fact_surface": "[[A kite]] has [[a tail]]",
    "question_id": "274",
}
FVQA: dict[str, object] = {
    "new_dataset_release/all_qs_dict_release.json": {
        "274": FACT,
        "99": {**FACT, "img_file": "ILSVRC2012_test_00000444.JPEG", "ans_source": "kb"},
    },
    "Name_Lists/train_list_0.txt": "COCO_val2014_000000005599.jpg\n",
    "Name_Lists/test_list_0.txt": "ILSVRC2012_test_00000444.JPEG\n",
    "Name_Lists/train_list_3.txt": "ILSVRC2012_test_00000444.JPEG\n",
    "Name_Lists/test_list_3.txt": "COCO_val2014_000000005599.jpg\n",
    "new_dataset_release/images/COCO_val2014_000000005599.jpg": None,
    "new_dataset_release/images/ILSVRC2012_test_00000444.JPEG": None,
}
A_OKVQA: dict[str, object] = {
    "aokvqa_v1p0_val.json": [
        {
            "split": "val",
            "image_id": 461751,
            "question_id": "22jbM6gDxdaMaunuzgrsBB",
            "question": "What is in the motorcyclist's mouth?",
            "choices": ["toothpick", "food", "popsicle stick", "cigarette"],
            "correct_choice_idx": 3,
            "direct_answers": [*["cigarette"] * 9, "smoke"],
            "difficult_direct_answer": False,
            "rationales": ["He's smoking while riding."],
        }
    ],
    "val2017/000000461751.jpg": None,
}
SETS = {"coco_qa": COCO_QA, "daquar": DAQUAR, "fvqa": FVQA, "a_okvqa": A_OKVQA}


def read(name: str, source: Path, **options: Any) -> tuple[Corpus, tuple[str, ...]]:
    """The corpus of a data set, and the photographs that are missing."""
    out = source.parent / f"corpus-{name}"
    report = import_dataset(name, [as_path(source)], out, **options)
    return Corpus(out), report.missing


def test_coco_qa_has_a_kind_for_each_question(lay_out: Lay) -> None:
    corpus, missing = read("coco_qa", lay_out(COCO_QA))
    names = ["COCO_train2014_000000023004.jpg", "COCO_val2014_000000000042.jpg"]
    assert corpus.examples() == [
        Example("train/1", "train", names[0], "what is the color of the horses", ("brown",)),
        Example("test/1", "test", names[1], "what is on the bed", ("cat",)),
    ]
    assert missing == ("COCO_train2014_000000000007.jpg",)
    kinds = (Path(corpus.path) / "kinds.csv").read_text()
    assert kinds == "id,kind\ntrain/1,color\ntest/1,object\n"


def test_the_last_tenth_of_the_train_photographs_is_val(lay_out: Lay) -> None:
    numbers = [*range(20), 19]
    files = {
        f"train/{name}.txt": "".join(f"{line}\n" for line in rows)
        for name, rows in {
            "questions": ["what is it"] * 21,
            "answers": ["cat"] * 21,
            "img_ids": numbers,
            "types": [0] * 21,
        }.items()
    }
    photographs = dict.fromkeys(f"train2014/COCO_train2014_{n:012}.jpg" for n in numbers)
    corpus, _ = read("coco_qa", lay_out({**COCO_QA, **files, **photographs}))
    assert [e.id for e in corpus.examples("val")] == ["train/19", "train/20", "train/21"]
    assert corpus.counts()["test"] == 1


def test_daquar_loses_the_name_of_the_photograph_at_the_end(lay_out: Lay) -> None:
    source = lay_out(DAQUAR)
    corpus, missing = read("daquar", source)
    assert [(e.id, e.split, e.item_key, e.source, e.targets) for e in corpus.examples()] == [
        ("train/1", "train", "image3.png", "what is on the desk ?", ("book, scissor",)),
        ("train/3", "train", "image3.png", "what is behind the image3 of a cat ?", ("wall",)),
        ("test/1", "test", "image12.png", "what is the color of the sofa ?", ("red",)),
    ]
    assert missing == ()


def test_fvqa_has_five_divisions(lay_out: Lay) -> None:
    source = lay_out(FVQA)
    for options, splits in (({}, ["train", "test"]), ({"fold": 3}, ["test", "train"])):
        corpus, _ = read("fvqa", source, **options)
        assert [(e.id, e.split) for e in corpus.examples()] == [
            *zip(["274", "99"], splits, strict=True)
        ]
        assert corpus.examples()[0].targets == ("kite",)
    assert (Path(corpus.path) / "kinds.csv").read_text() == "id,kind\n274,image\n99,kb\n"


def test_a_okvqa_has_ten_answers(lay_out: Lay) -> None:
    corpus, _ = read("a_okvqa", lay_out(A_OKVQA))
    (example,) = corpus.examples()
    assert (example.split, example.item_key) == ("val", "000000461751.jpg")
    assert example.targets == (*["cigarette"] * 9, "smoke")
    assert not (Path(corpus.path) / "kinds.csv").exists()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("coco_qa", {"train/types.txt": "2\n"}, "types.txt: line 2: missing, but other files"),
        ("coco_qa", {"train/types.txt": "2\n4\n"}, "types.txt: line 2: 4, allowed: 0 to 3"),
        ("coco_qa", {"test/img_ids.txt": "-1\n"}, "line 1: '-1', expected a whole number"),
        ("coco_qa", {"test/answers.txt": " \n"}, "answers.txt: line 1: question test/1 has no"),
        ("daquar", {"qa.894.raw.test.txt": "what ?\nred\n"}, "line 1: 'what .' names no photo"),
        ("daquar", {"qa.894.raw.test.txt": "in the image3 ?\n"}, "line 2: question test/1 has no"),
        ("fvqa", {"Name_Lists/test_list_0.txt": "a\n"}, "99.img_file: 'ILSVRC.* is in no list of"),
        ("a_okvqa", {"aokvqa_v1p0_val.json": {}}, "v1p0_val.json: .., expected a list"),
        ("a_okvqa", {"aokvqa_v1p0_val.json": [7]}, r"val.json: \[0\]: 7, expected an object"),
        ("a_okvqa", {"aokvqa_v1p0_val.json": [{}]}, r"val.json: \[0\].image_id: missing"),
    ],
)
def test_what_is_wrong_is_named(
    name: str, changes: dict[str, object], message: str, lay_out: Lay
) -> None:
    with pytest.raises(UserError, match=message):
        read(name, lay_out({**SETS[name], **changes}))


@pytest.mark.parametrize("name", ["daquar", "a_okvqa", "ok_vqa"])
def test_a_folder_of_something_else_is_refused(name: str, lay_out: Lay) -> None:
    with pytest.raises(UserError, match=r"published: (has no|no photographs with questions)"):
        read(name, lay_out({"readme.txt": ""}))


@pytest.mark.parametrize("name", SETS)
def test_a_set_without_its_photographs_is_refused(name: str, lay_out: Lay) -> None:
    files = {file: content for file, content in SETS[name].items() if content is not None}
    with pytest.raises(UserError, match=r"has none of the \d photographs named, the first is"):
        read(name, lay_out(files))
