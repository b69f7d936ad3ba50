"""What a file is, before anything opens it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from errno import EIO
from pathlib import Path

import pytest

from pipeline.decode import DecodeError
from pipeline.source import file_state


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "some.mp4").write_bytes(b"some bytes")
    return tmp_path / "some.mp4"


@pytest.fixture
def deadline() -> Iterator[None]:
    """What hangs fails after ten seconds."""

    def too_late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("error", "make"),
    [
        ("missing", lambda path: None),
        ("missing", lambda path: path.symlink_to("nowhere.mp4")),
        ("empty", lambda path: path.touch()),
        ("refused", lambda path: path.mkdir()),
        ("refused", os.mkfifo),
    ],
    ids=["missing", "broken link", "empty", "folder", "FIFO"],
)
def test_what_is_no_regular_file_is_refused_before_opening(
    error: str, make: Callable[[Path], None], tmp_path: Path, deadline: None
) -> None:
    make(tmp_path / "a.mp4")
    with pytest.raises(DecodeError, match=r"a\.mp4") as refused:
        file_state(tmp_path / "a.mp4")
    assert refused.value.error == error


def test_names_too_long_for_a_disk_are_missing(tmp_path: Path) -> None:
    with pytest.raises(DecodeError) as refused:
        file_state(tmp_path / ("x" * 300 + ".mp4"))
    assert refused.value.error == "missing"


def test_a_file_that_the_disk_cannot_read_is_unreadable(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(EIO, os.strerror(EIO))

    monkeypatch.setattr(hashlib, "file_digest", fail)
    with pytest.raises(DecodeError) as refused:
        file_state(file)
    assert refused.value.error == "unreadable"


def test_a_file_is_known_by_its_bytes(file: Path, tmp_path: Path) -> None:
    state = file_state(file)
    assert state.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert state.size_bytes == file.stat().st_size
    copy = shutil.copyfile(file, tmp_path / "copy.mp4")
    assert file_state(copy).sha256 == state.sha256
