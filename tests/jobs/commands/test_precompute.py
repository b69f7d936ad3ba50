"""`intertitle precompute`: what it prints, and how it ends."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from intertitle.pipeline.corpus import Corpus, Item, write_corpus
from intertitle.pipeline.feature_store.store import FeatureStore

KEYS = {"store", "snapshot", "stored", "quarantined", "skipped", "seconds"}

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def corpus(clips: Path, tmp_path: Path) -> Path:
    """Two clips and two files that are none."""
    for name in ("text.mp4", "list.mp4"):
        (tmp_path / name).write_text("not a film\n" * 100)
    good = [Item(item.key, str(clips / item.uri), "video") for item in Corpus(clips).items()[:2]]
    bad = [Item(name, f"{name}.mp4", "video") for name in ("text", "list")]
    return write_corpus(tmp_path, [*good, *bad], []).path


def test_too_many_failures_are_exit_code_3_with_the_work_done_and_counted(
    intertitle, corpus: Path
) -> None:
    out = corpus / "store"
    ended = intertitle("precompute", corpus, "--out", out, "--frames", 4, "--json")
    assert ended.code == 3
    *lines, last = ended.out.splitlines()
    result = json.loads(last)
    assert result.keys() >= KEYS
    assert (result["stored"], result["quarantined"], result["skipped"]) == (2, 2, 0)
    store = FeatureStore(out)
    assert (result["store"], result["snapshot"]) == (str(out), store.snapshot_id)
    assert store.snapshot.fingerprint.sampling == "uniform:4"
    assert [line.split(":")[:2] for line in lines[:2]] == [
        ["quarantined text", " unreadable"],
        ["quarantined list", " unreadable"],
    ]
    assert "features: 4/4" in ended.err

    # As many failures as are allowed are no failure of the job; nothing is done twice.
    again = ("precompute", corpus, "--out", out, "--frames", 4, "--json", "--allow-failed", 0.5)
    ended = intertitle(*again)
    assert ended.code == 0
    result = json.loads(ended.out.splitlines()[-1])
    assert (result["stored"], result["quarantined"], result["skipped"]) == (2, 2, 4)


def test_nothing_to_do_is_exit_code_0(
    intertitle, clips: Path, clip_features: Path, tmp_path: Path
) -> None:
    store = shutil.copytree(clip_features, tmp_path / "store")
    ended = intertitle("precompute", clips, "--out", store, "--json")
    assert ended.code == 0
    result = json.loads(ended.out.splitlines()[-1])
    assert (result["stored"], result["quarantined"], result["skipped"]) == (24, 0, 24)
    assert result["snapshot"] == FeatureStore(clip_features).snapshot_id


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", 8, "--fps", 2], "--frames 8 and --fps 2: only one of them"),
        (["--frames", 0], "frames: 0, allowed: 1 or more"),
        (["--fps", 0], "fps: 0.0, allowed: more than 0"),
        (["--format", "zip"], "format: 'zip', allowed: arrow, webdataset"),
        (["--every", 0], "every: 0, allowed: 1 or more"),
        (["--item-seconds", 0], "seconds: 0.0, allowed: more than 0"),
        (["--features", "flat"], "features: 'flat', allowed: pooled, grid"),
    ],
)
def test_a_mistake_ends_in_one_line(
    arguments: list[object], message: str, intertitle, clips: Path, tmp_path: Path
) -> None:
    ended = intertitle("precompute", clips, "--out", tmp_path / "store", *arguments)
    assert (ended.code, ended.out, ended.err) == (2, "", f"intertitle: {message}\n")
    assert not (tmp_path / "store").exists()


def test_an_unknown_backbone_is_refused_with_the_known_ones(
    intertitle, clips: Path, tmp_path: Path
) -> None:
    ended = intertitle("precompute", clips, "--out", tmp_path / "store", "--backbone", "vgg")
    assert ended.code == 2 and ended.err.startswith("intertitle: backbone: 'vgg', allowed: effic")
    assert ended.err.count("\n") == 1 and not (tmp_path / "store").exists()


def test_a_folder_that_is_no_corpus_ends_in_one_line(intertitle, tmp_path: Path) -> None:
    ended = intertitle("precompute", tmp_path, "--out", tmp_path / "store")
    assert ended.code == 2 and ended.out == ""
    assert ended.err.startswith(f"intertitle: {tmp_path}: not a corpus: items.parquet is missing")
    assert ended.err.count("\n") == 1


def test_a_folder_is_computed_however_it_is_named(
    intertitle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("plain", "with space", "new\nline", "cafe\u0301")
    for name in (*names, "here/inside", "home/own"):
        (tmp_path / name).mkdir(parents=True)
        Image.linear_gradient("L").convert("RGB").save(tmp_path / name / f"{Path(name).name}.jpg")
    (tmp_path / "here" / "link").symlink_to("../plain")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    # Memory is a file system of its own, as another drive is.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as mounted:
        shutil.copy(tmp_path / "plain" / "plain.jpg", mounted)
        spellings = [f"../{name}" for name in names]
        spellings += ["./inside", "inside/../inside/", "~/own", "link", "link/../home/own", mounted]
        items = []
        for number, spelling in enumerate(spellings):
            out = tmp_path / f"corpus{number}"
            ended = intertitle("import", "folder", spelling, "--out", out)
            assert ended.code == 0, ended.err
            (item,) = Corpus(out).items()
            items.append(replace(item, key=str(number)))
        write_corpus(tmp_path / "all", items, [])
        ended = intertitle("precompute", "../all", "--out", "../store", "--frames", 1, "--json")
        assert json.loads(ended.out.splitlines()[-1])["stored"] == len(spellings), ended.out
        # A corpus that was moved is the same corpus.
        (tmp_path / "all").rename(tmp_path / "moved")
        ended = intertitle("precompute", "../moved", "--out", "../store", "--frames", 1, "--json")
        assert json.loads(ended.out.splitlines()[-1])["skipped"] == len(spellings), ended.out
