"""Files and zips of a batch."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.page.batch import read_files, write_answers
from intertitle.jobs.serving.page.desk import Desk
from intertitle.jobs.serving.schemas import Result


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk to which all files are uploads."""
    uploads = SimpleNamespace(has=lambda path: True)
    desk = SimpleNamespace(body_bytes=10_000, uploads=uploads)
    desk.uploaded = lambda path: Desk.uploaded(cast(Desk, desk), path)
    return cast(Desk, desk)


def zipped(contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return memory.getvalue()


@pytest.mark.parametrize("damage", ["content", "directory"])
def test_a_damaged_zip_is_named(desk: Desk, tmp_path: Path, damage: str) -> None:
    data = bytearray(zipped({"a.png": bytes(range(256)) * 8}))
    # A local header has 30 bytes, then the name; the directory is before the last 22 bytes.
    at = slice(40, 90) if damage == "content" else slice(len(data) - 68, len(data) - 22)
    data[at] = b"\xff" * (at.stop - at.start)
    file = tmp_path / "pictures.zip"
    file.write_bytes(data)
    with pytest.raises(ApiError) as caught:
        read_files(desk, [str(file)])
    assert (caught.value.value, caught.value.field) == ("pictures.zip", "files")
    assert caught.value.allowed.startswith("a zip that can be unpacked")


def test_a_zip_that_takes_much_memory_is_refused(desk: Desk, tmp_path: Path) -> None:
    # A folder has a header of 30 bytes, and 46 in the directory, with its name.
    names = [f"{n:0200}/" for n in range(5000)]
    cases = {
        "directory": (zipped(dict.fromkeys(names, b"")), "a zip whose directory has at most"),
        "bomb": (zipped({"a.png": bytes(10_001)}), "at most 10,000 bytes and 64 files"),
        "files": (zipped({f"{n}.png": b"" for n in range(65)}), "at most 10,000 bytes and 64"),
        "method": (zipped({"a.png": b"a"}, zipfile.ZIP_BZIP2), "stored or deflated"),
    }
    for case, (data, allowed) in cases.items():
        file = tmp_path / f"{case}.zip"
        file.write_bytes(data)
        with pytest.raises(ApiError) as caught:
            read_files(desk, [str(file)])
        assert allowed in caught.value.allowed
    file.write_bytes(zipped({**dict.fromkeys(names[:100], b""), "b/a.png": b"a"}))
    assert read_files(desk, [str(file)]) == [("b/a.png", b"a")]


def test_answers_are_no_formulas_of_a_spreadsheet(tmp_path: Path) -> None:
    results = [
        Result(input="@a.png", text="=1+1", score=-0.5),
        Result(input="b", text="a - b", warnings=["a guess"]),
    ]
    table, lines = (Path(name).read_text("utf-8") for name in write_answers(tmp_path, results))
    assert table.splitlines() == [
        "input,text,score,warnings,error",
        "'@a.png,'=1+1,-0.5,,",
        "b,a - b,0.0,a guess,",
    ]
    assert json.loads(lines.splitlines()[0])["text"] == "=1+1"
