"""`intertitle import`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.corpus import Corpus


def test_clips_are_drawn_and_counted_in_the_last_line(intertitle, tmp_path: Path) -> None:
    out = tmp_path / "clips"
    ended = intertitle("import", "rendered", "--out", out, "--num-clips", 10, "--json")
    assert ended.code == 0
    result = json.loads(ended.out.splitlines()[-1])
    assert result["corpus"] == str(out)
    assert (result["items"], result["examples"], result["missing"]) == (10, 10, 0)
    assert len(Corpus(out).items()) == 10


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["folder", "nowhere"], "nowhere: not a folder"),
        (["folder"], "import folder: takes one SOURCE folder, got 0"),
        (["rendered", "somewhere"], "import rendered: takes no SOURCE, got somewhere"),
        (["coco2", "somewhere"], "import: 'coco2', allowed: flickr8k, folder, rendered"),
    ],
)
def test_a_mistake_ends_in_one_line(
    arguments: list[str], message: str, intertitle, tmp_path: Path
) -> None:
    ended = intertitle("import", *arguments, "--out", tmp_path / "corpus")
    assert (ended.code, ended.out, ended.err) == (2, "", f"intertitle: {message}\n")
