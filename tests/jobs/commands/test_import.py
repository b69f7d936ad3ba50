"""`intertitle import`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intertitle.pipeline.corpus import Corpus
from tests.training.conftest import open_data_ref


def test_clips_are_drawn_and_counted_in_the_last_line(intertitle, tmp_path: Path) -> None:
    out = tmp_path / "clips"
    ended = intertitle("import", "rendered", "--out", out, "--num-clips", 10, "--json")
    assert ended.code == 0
    result = json.loads(ended.out.splitlines()[-1])
    assert result["corpus"] == str(out)
    assert (result["items"], result["examples"], result["missing"]) == (10, 10, 0)
    assert len(Corpus(out).items()) == 10


def test_clips_are_drawn_with_a_label_for_each_frame(intertitle, tmp_path: Path) -> None:
    out = tmp_path / "clips"
    ended = intertitle("import", "rendered", "--frame-labels", "--out", out, "--num-clips", 10)
    assert ended.code == 0
    assert "intertitle precompute --every 1" in ended.out
    assert {len(example.targets) for example in Corpus(out).examples()} == {24}


def test_missing_files_are_listed_and_counted(intertitle, tmp_path: Path) -> None:
    source = tmp_path / "flickr8k"
    (source / "Images").mkdir(parents=True)
    (source / "Images" / "0.jpg").touch()
    names = [f"{n}.jpg" for n in range(31)]
    (source / "Flickr8k.token.txt").write_text("".join(f"{n}#0\tA dog .\n" for n in names))
    (source / "Flickr_8k.testImages.txt").write_text("\n".join(names))
    ended = intertitle("import", "flickr8k", source, "--out", tmp_path / "corpus", "--json")
    assert ended.code == 0
    *lines, result = ended.out.splitlines()
    assert json.loads(result)["missing"] == 30
    assert lines.count("missing: 1.jpg") == 1 and "missing: 10 more" in lines
    assert "train left out: Flickr_8k.trainImages.txt is absent" in lines
    assert lines[-1].endswith("1 items, 1 examples, 1 references, 30 missing files")


def test_what_a_folder_has_besides_is_counted(intertitle, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    (tmp_path / "disk").mkdir()
    source.mkdir()
    for file in ("photos/a.jpg", "photos/._a.jpg", "photos/notes.txt", "disk/b.jpg"):
        (tmp_path / file).touch()
    (source / "train").symlink_to("../disk")
    for flags, items in (((), 1), (("--follow-links",), 2)):
        out = ("--out", tmp_path / "corpus")
        ended = intertitle("import", "folder", source, *out, "--json", *flags)
        assert ended.code == 0
        *lines, last = ended.out.splitlines()
        result = json.loads(last)
        left_out = {"hidden": 1, "links": 2 - items, "repeated": 0, "unreadable": 0}
        assert (result["items"], result["left_out"]) == (items, {**left_out, "other_kinds": 1})
        assert "1 hidden files left out" in lines
        told = "1 links left out: --follow-links follows them" in lines
        assert told == (items == 1)


def put(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder


def test_two_aligned_files_or_a_folder_with_its_languages(intertitle, tmp_path: Path) -> None:
    source = put(tmp_path / "text", train_en="a dog\n", train_de="ein Hund\n")
    pair = [source / "train.de", source / "train.en"]
    languages = ["--source-language", "de", "--target-language", "en"]
    for out, arguments in (("a", pair), ("b", [source, *languages])):
        ended = intertitle("import", "parallel", *arguments, "--out", tmp_path / out)
        assert (ended.code, ended.err) == (0, "")
        example = Corpus(tmp_path / out).examples()[0]
        assert (example.source, example.targets) == ("ein Hund", ("a dog",))


def test_the_language_of_the_targets_is_kept(intertitle, tmp_path: Path) -> None:
    source = put(tmp_path / "text", train_en="a dog\n", train_zh="狗\n")
    pair = [source / "train.en", source / "train.zh"]
    for arguments, language in (
        (pair, None),
        ([*pair, "--target-language", "zh"], "zh"),
        ([source, "--source-language", "en", "--target-language", "zh"], "zh"),
        ([*pair, "--target-language", "zh_CN"], "zh_CN"),
    ):
        ended = intertitle("import", "parallel", *arguments, "--out", tmp_path / "out")
        assert (ended.code, ended.err) == (0, "")
        corpus = Corpus(tmp_path / "out")
        assert corpus.target_language == language
        assert [(e.source, e.targets) for e in corpus.examples()] == [("a dog", ("狗",))]
        assert open_data_ref(corpus.path, None, "nothing").target_language == language


def test_json_files_after_the_folder_are_read_instead_of_its_own(
    intertitle, tmp_path: Path
) -> None:
    sentence = {"raw": "a dog", "tokens": ["a", "dog"], "imgid": 0, "sentid": 0}
    image = {"filename": "a.jpg", "imgid": 0, "split": "test", "sentences": [sentence]}
    content = json.dumps({"images": [image], "dataset": "flickr8k"})
    source = put(tmp_path / "photographs", a_jpg="", splits_json=content)
    for format in ("coco", "flickr8k", "flickr30k"):
        out = tmp_path / format
        ended = intertitle("import", format, source, source / "splits.json", "--out", out)
        assert (ended.code, ended.err) == (0, "")
        assert Corpus(out).splits() == ["test"]


@pytest.mark.parametrize(("format", "file"), [("labelled", "train_tsv"), ("text", "train_txt")])
def test_one_file_of_text(format: str, file: str, intertitle, tmp_path: Path) -> None:
    source = put(tmp_path / "text", **{file: "pos\ta film\n"}) / file.replace("_", ".")
    ended = intertitle("import", format, source, "--out", tmp_path / "corpus")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("corpus: 0 items, 1 examples, 1 references, 0 missing files\n")


def test_a_table_of_ones_own(intertitle, tmp_path: Path) -> None:
    rows = [f"{n}.jpg;A dog runs .\n{n}.jpg;The dog .\n" for n in range(20)]
    for n in range(19):
        (tmp_path / f"{n}.jpg").touch()
    table = tmp_path / "captions.csv"
    table.write_text("photo;title\n" + "".join(rows))
    columns = ("--column", "file=photo", "--column", "caption=title")
    options = (*columns, "--val-share", 0.2, "--test-share", 0, "--seed", 3)
    ended = intertitle("import", "table", table, "--out", tmp_path / "corpus", *options, "--json")
    assert ended.code == 0, ended.err
    assert "splits drawn with seed 3: 0.8 train, 0.2 val, 0 test" in ended.out
    assert "captions.csv: captions (file = photo, caption = title)" in ended.out
    assert "missing: 19.jpg" in ended.out
    result = json.loads(ended.out.splitlines()[-1])
    assert [result[name] for name in ("items", "examples", "references", "missing")] == [
        19,
        19,
        38,
        1,
    ]
    assert set(Corpus(tmp_path / "corpus").splits()) == {"train", "val"}


LANGUAGES = "--source-language and --target-language"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["folder", "nowhere"], "nowhere: not a folder"),
        (["folder"], "import folder: takes one SOURCE, got 0"),
        (["msvd", "a", "b"], "import msvd: takes one SOURCE, got 2"),
        (["coco"], "import coco: takes a SOURCE folder, got none"),
        (["rendered", "somewhere"], "import rendered: takes no SOURCE, got somewhere"),
        (["easy_vqa", "somewhere"], "import easy_vqa: takes no SOURCE, got somewhere"),
        (
            ["parallel", "somewhere"],
            f"import parallel: takes SOURCE_FILE TARGET_FILE, or FOLDER with {LANGUAGES}; "
            "got somewhere",
        ),
        (
            ["text", "a.txt", "--source-language", "en"],
            "import text: takes no --source-language, allowed for parallel",
        ),
        (
            ["text", "a.txt", "--target-language", "en"],
            "import text: takes no --target-language, allowed for coco, flickr30k, flickr8k, "
            "hf, msrvtt, msvd, parallel, table, webdataset",
        ),
        (
            ["msvd", "a", "--target-language", "Chinese"],
            "import msvd: --target-language Chinese, allowed: a code, as en, zh or pt_BR",
        ),
        (
            ["coco", "a", "--follow-links"],
            "import coco: takes no --follow-links, allowed for folder, msrvtt, msvd",
        ),
        (
            ["text", "a", "--seed", "0"],
            "import text: takes no --seed, allowed for hf, rendered, table, webdataset",
        ),
        (
            ["coco2", "somewhere"],
            "import: 'coco2', allowed: a_okvqa, coco, coco_qa, daquar, easy_vqa, flickr30k, "
            "flickr8k, folder, fvqa, hf, labelled, msrvtt, msvd, ok_vqa, parallel, rendered, "
            "table, text, vqa_v2, webdataset",
        ),
    ],
)
def test_a_mistake_ends_in_one_line(
    arguments: list[str], message: str, intertitle, tmp_path: Path
) -> None:
    ended = intertitle("import", *arguments, "--out", tmp_path / "corpus")
    assert (ended.code, ended.out, ended.err) == (2, "", f"intertitle: {message}\n")
