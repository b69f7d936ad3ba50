"""Files and zips of a batch."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.page.batch import read_files
from intertitle.jobs.serving.page.desk import Desk

METHODS = {
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk to which all files are uploads."""
    uploads = SimpleNamespace(has=lambda path: True)
    desk = SimpleNamespace(body_bytes=10_000, uploads=uploads)
    desk.uploaded = lambda path: Desk.uploaded(cast(Desk, desk), path)
    return cast(Desk, desk)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("damage", ["content", "directory"])
def test_a_damaged_zip_is_named(desk: Desk, tmp_path: Path, method: int, damage: str) -> None:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as archive:
        archive.writestr("a.png", bytes(range(256)) * 8)
    data = bytearray(memory.getvalue())
    # A local header has 30 bytes, then the name; the directory is before the last 22 bytes.
    at = slice(40, 90) if damage == "content" else slice(len(data) - 68, len(data) - 22)
    data[at] = b"\xff" * (at.stop - at.start)
    file = tmp_path / "pictures.zip"
    file.write_bytes(data)
    with pytest.raises(ApiError) as caught:
        read_files(desk, [str(file)])
    assert (caught.value.value, caught.value.field) == ("pictures.zip", "files")
    assert caught.value.allowed.startswith("a zip that can be unpacked")
