"""A folder and an object store behind one interface: files appear whole, or not at all."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.paths import (
    as_path,
    atomic_folder,
    atomic_write,
    cached,
    downloaded,
    is_local,
    is_url,
    normalized,
    put_file,
    rename,
    retry_io,
)


@pytest.fixture(params=["folder", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    """An empty folder, and an empty prefix of a bucket."""
    if request.param == "folder":
        return as_path(tmp_path)
    request.getfixturevalue("object_store")
    return as_path(f"s3://bucket/{tmp_path.name}")


def test_a_file_is_written_whole_and_again_over_itself(place: UPath) -> None:
    file = place / "some folder" / "some file.txt"
    for text in (b"first", b"the second", b""):
        atomic_write(file, lambda opened, text=text: opened.write(text))
        assert file.read_bytes() == text
    assert [path.name for path in file.parent.iterdir()] == ["some file.txt"]


def test_who_fails_half_way_leaves_what_was_there(place: UPath) -> None:
    atomic_write(place / "a", lambda file: file.write(b"old"))

    def fail(file: object) -> None:
        file.write(b"ne")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    for name in ("a", "b"):
        with pytest.raises(KeyboardInterrupt):
            atomic_write(place / name, fail)
    assert (place / "a").read_bytes() == b"old" and not (place / "b").exists()
    assert [path.name for path in place.iterdir()] == ["a"]


def test_a_file_takes_another_name(place: UPath) -> None:
    atomic_write(place / "a", lambda file: file.write(b"text"))
    rename(place / "a", place / "b")
    assert [path.name for path in place.iterdir()] == ["b"]
    assert (place / "b").read_bytes() == b"text"


@pytest.mark.parametrize("act", ["write_whole", "rename"])
def test_a_folder_is_synced_after_a_file_in_it_took_its_name(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace = Path.replace

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append("sync the folder" if path == tmp_path else "sync the file")

    def note(path: Path, target: Path) -> Path:
        done.append("rename")
        return replace(path, target)

    (tmp_path / "a").write_bytes(b"text")
    monkeypatch.setattr("intertitle.pipeline.storage.paths.os.fsync", sync)
    monkeypatch.setattr(Path, "replace", note)
    if act == "write_whole":
        atomic_write(as_path(tmp_path / "b"), lambda file: file.write(b"text"))
        assert done == ["sync the file", "rename", "sync the folder"]
    else:
        rename(as_path(tmp_path / "a"), as_path(tmp_path / "b"))
        assert done == ["rename", "sync the folder"]
    assert (tmp_path / "b").read_bytes() == b"text"


def test_a_folder_is_synced_with_all_that_is_in_it_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace = Path.replace

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append(str(path.relative_to(tmp_path)))

    def note(path: Path, target: Path) -> Path:
        done.append("rename")
        return replace(path, target)

    monkeypatch.setattr("intertitle.pipeline.storage.paths.os.fsync", sync)
    monkeypatch.setattr(Path, "replace", note)
    with atomic_folder(tmp_path / "new") as folder:
        (folder / "a").write_bytes(b"text")
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_bytes(b"text")
    *synced, renamed, last = done
    assert sorted(synced) == [".new.writing", *(f".new.writing/{n}" for n in ("a", "sub", "sub/b"))]
    assert (renamed, last) == ("rename", ".")
    assert (tmp_path / "new" / "sub" / "b").read_bytes() == b"text"


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    # A process that was killed has left this.
    (tmp_path / ".new.writing").mkdir()
    (tmp_path / ".new.writing" / "old").write_bytes(b"text")
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "new") as folder:
        assert not list(folder.iterdir())
        (folder / "a").write_bytes(b"text")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_remote_file_is_cached_once_and_a_local_one_is_itself(
    place: UPath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    atomic_write(place / "a.tar", lambda file: file.write(b"text"))
    copy = cached(place / "a.tar", "abc")
    assert copy.read_bytes() == b"text" and copy.suffix == ".tar"
    with downloaded(place / "a.tar") as lent:
        assert lent.read_bytes() == b"text"
        opened = lent.resolve()
    if is_local(place):
        assert copy == lent == place / "a.tar"
    else:
        (place / "a.tar").unlink()
        assert cached(place / "a.tar", "abc") == copy
        # Another thread may have opened another file under the same number.
        assert lent.resolve() != opened


def test_a_write_that_the_system_cuts_short_is_tried_again_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system takes 1,000 bytes of a file and no more."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    atomic_write(as_path(tmp_path / "a"), lambda file: file.write(b"old"))
    tries: list[int] = []

    def write(file: BinaryIO) -> None:
        tries.append(1)
        file.write(bytes(4000))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError) as failed:
            atomic_write(as_path(tmp_path / "a"), write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (failed.value.errno, len(tries)) == (errno.EFBIG, 4)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize("put", ["write_whole", "put_file"])
@pytest.mark.parametrize(("failures", "succeeds"), [(3, True), (4, False)])
def test_a_short_write_is_tried_again_and_then_fails(
    put: str,
    failures: int,
    succeeds: bool,
    object_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = as_path(f"s3://bucket/{tmp_path.name}/file")
    left = iter(range(failures))

    def put_half(local: str, remote: str) -> None:
        data = Path(local).read_bytes()
        target.fs.pipe_file(remote, data if next(left, None) is None else data[: len(data) // 2])

    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    monkeypatch.setattr(target.fs, "put_file", put_half)
    (tmp_path / "local").write_bytes(b"text")

    def write() -> None:
        if put == "put_file":
            put_file(tmp_path / "local", target)
        else:
            atomic_write(target, lambda file: file.write(b"text"))

    if succeeds:
        write()
        assert target.read_bytes() == b"text"
    else:
        with pytest.raises(OSError, match="2 of 4 bytes arrived"):
            write()


@pytest.mark.parametrize(
    ("number", "tries"),
    [(errno.EIO, 4), (errno.ENOSPC, 1), (errno.EACCES, 1), (errno.ENOENT, 1)],
)
def test_only_what_may_pass_is_tried_again(
    number: int, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    calls: list[int] = []

    @retry_io
    def fail() -> None:
        calls.append(1)
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError):
        fail()
    assert len(calls) == tries


@pytest.mark.parametrize("text", ["nosuch://a/b", "gopher://host/x"])
def test_an_url_that_nothing_installed_knows_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=text):
        as_path(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("s3://a/b", True), ("S3://a", True), ("/a://b", False), ("a:b", False), ("a/b://c", False)],
)
def test_an_url_is_told_from_a_path(text: str, expected: bool) -> None:
    assert is_url(text) is expected


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_any_name_is_a_path_of_this_machine(name: str) -> None:
    assert is_local(as_path(f"/some folder/{name}"))
    assert os.fspath(as_path("/") / name) == f"/{name}" or name == "."


def test_what_a_person_types_becomes_a_path_without_detours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    monkeypatch.chdir(tmp_path / "a")
    assert normalized(Path("x y.jpg")) == tmp_path / "a" / "x y.jpg"
    assert normalized(Path("../a/./b")) == tmp_path / "a" / "b"
    assert normalized(Path("../link")) == tmp_path / "link"
    # Above a link is where it leads to, as for the disk.
    assert normalized(Path("../link/..")) == tmp_path / "a"
    assert normalized(Path("../none/..")) == tmp_path
    assert normalized(Path("~/x")) == tmp_path / "home" / "x"
    assert as_path("~/x") == as_path(tmp_path / "home" / "x")
    (tmp_path / "a" / "~").mkdir()
    assert normalized(Path("~")) == tmp_path / "a" / "~"
