"""A walk finds every file once, and counts what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertitle.pipeline.importers import walk as module
from intertitle.pipeline.importers.walk import is_hidden, walk


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "name", [".a", "._a.jpg", "b/.c/d.jpg", "__MACOSX/a.jpg", "b/@eaDir/a.jpg", "$RECYCLE.BIN/a"]
)
def test_hidden_names(name: str) -> None:
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["a.b", "a/b.jpg", "_a", "__a__/b", "a..jpg"])
def test_names_that_are_not_hidden(name: str) -> None:
    assert not is_hidden(name)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    folder = put(tmp_path, "a/1.jpg", "b/2.jpg")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "a" / "b").symlink_to("../b")
    (folder / "b" / "a").symlink_to("../a")
    found = walk(folder, follow_links=True)
    assert [file.name for file in found.files] == ["a/1.jpg", "b/2.jpg"]
    assert found.repeated == 3
    assert walk(folder).links == 3


def test_a_link_to_a_folder_above_adds_what_is_beside_it_alone(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg", "b.jpg")
    (tmp_path / "photos" / "up").symlink_to(tmp_path)
    found = walk(tmp_path / "photos", follow_links=True)
    assert [file.name for file in found.files] == ["a.jpg", "up/b.jpg"]
    assert found.repeated == 1


def test_links_that_all_lead_to_each_other_are_walked_once(tmp_path: Path) -> None:
    names = [f"{n:02}" for n in range(30)]
    put(tmp_path, *(f"elsewhere/{name}/a.jpg" for name in names))
    for name in names:
        for other in names:
            (tmp_path / "elsewhere" / name / f"to{other}").symlink_to(f"../{other}")
    put(tmp_path, "folder/b.jpg")
    (tmp_path / "folder" / "first").symlink_to("../elsewhere/00")
    found = walk(tmp_path / "folder", follow_links=True)
    assert len(found.files) == 31 and found.repeated == 30 * 30 + 1 - 30


def test_a_followed_link_gives_where_the_file_is(tmp_path: Path) -> None:
    put(tmp_path, "blobs/sha0", "photos/a.jpg")
    (tmp_path / "photos" / "b.jpg").symlink_to("../blobs/sha0")
    assert [file.name for file in walk(tmp_path / "photos").files] == ["a.jpg"]
    followed = walk(tmp_path / "photos", follow_links=True).files
    assert [file.path for file in followed] == [
        tmp_path / "photos" / "a.jpg",
        tmp_path / "blobs" / "sha0",
    ]


def test_a_folder_that_cannot_be_listed_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.jpg", "locked/b.jpg")
    scandir = module.os.scandir

    def refuse(place: str) -> object:
        if str(place).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(module.os, "scandir", refuse)
    found = walk(tmp_path)
    assert [file.name for file in found.files] == ["a.jpg"] and found.unreadable == 1
    assert found.notes() == ["1 folders left out: they can't be read"]
