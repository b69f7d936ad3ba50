"""Kept files: whole, and made again when they are damaged."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from intertitle.pipeline.backbones.cache import cached_build
from intertitle.pipeline.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "intertitle"


@pytest.mark.parametrize("damage", [b"", b"short", None], ids=["empty", "cut off", "one bit"])
def test_a_damaged_file_is_made_again(folder: Path, damage: bytes | None) -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"a network" * 100

    assert cached_build("net", make) == cached_build("net", make)
    assert len(made) == 1
    whole = (folder / "net").read_bytes()
    (folder / "net").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    assert cached_build("net", make) == b"a network" * 100
    assert len(made) == 2 and (folder / "net").read_bytes() == whole


def test_many_at_once_leave_one_whole_file(folder: Path) -> None:
    start = threading.Barrier(8)
    got: list[bytes] = []

    def run(number: int) -> None:
        start.wait()
        got.append(cached_build("net", lambda: bytes([number]) * 1_000_000))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 and all(len(set(data)) == 1 for data in got)
    assert cached_build("net", lambda: pytest.fail("is kept")) in got
    assert [file.name for file in folder.iterdir()] == ["net"]


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=f"file{os.sep}intertitle: .*XDG_CACHE_HOME"):
        cached_build("net", lambda: b"made")
