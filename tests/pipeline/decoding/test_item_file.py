"""What a file is, before anything opens it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from errno import ECONNRESET, EIO, EMFILE, ENFILE, ENOMEM, ESTALE, ETIMEDOUT, errorcode
from pathlib import Path
from typing import NoReturn

import pytest
import requests
from upath import UPath

from intertitle.pipeline.corpus import Item, Member
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import (
    ItemFile,
    file_stat,
    file_state,
    hash_item_file,
    lacks_corpus,
    open_item_file,
    unread_file_state,
)
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.allowed_hosts import VARIABLE, parse_hosts
from intertitle.pipeline.storage.paths import as_path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "some.mp4").write_bytes(b"some bytes")
    return tmp_path / "some.mp4"


@pytest.fixture
def deadline() -> Iterator[None]:
    """What hangs fails after a minute."""

    def too_late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(60)
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
        ("refused", lambda path: path.symlink_to("/dev/zero")),
    ],
    ids=["missing", "broken link", "empty", "folder", "FIFO", "device"],
)
def test_what_is_no_regular_file_is_refused_before_opening(
    error: str, make: Callable[[Path], None], tmp_path: Path, deadline: None
) -> None:
    make(tmp_path / "a.mp4")
    with pytest.raises(DecodeError, match=r"a\.mp4") as refused:
        file_state(tmp_path / "a.mp4")
    assert refused.value.error == error


def test_a_missing_file_does_not_mean_that_the_corpus_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.mp4").touch()

    def lacks(corpus: str, uri: str) -> bool:
        return lacks_corpus(ItemFile(Item("b", uri, "video"), str(tmp_path / corpus)))

    assert lacks("empty", "b.mp4") and lacks("nowhere", "b.mp4")
    assert not lacks("corpus", "b.mp4")
    # It would not be in the corpus.
    assert not lacks("nowhere", "/mnt/b.mp4") and not lacks("nowhere", "s3://bucket/b.mp4")


def test_names_too_long_for_a_disk_are_missing(tmp_path: Path) -> None:
    with pytest.raises(DecodeError) as refused:
        file_state(tmp_path / ("x" * 300 + ".mp4"))
    assert refused.value.error == "missing"


NUMBERS = [ESTALE, EIO, ETIMEDOUT, EMFILE, ENFILE, ENOMEM, ECONNRESET]


@pytest.mark.parametrize("number", NUMBERS, ids=errorcode.get)
@pytest.mark.parametrize("where", ["stat", "resolve", "hash"])
def test_a_file_that_the_machine_cannot_read_is_unavailable(
    where: str, number: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    this = ItemFile(Item("some", file.name, "video"), str(file.parent))
    if where == "hash":
        monkeypatch.setattr(hashlib, "file_digest", fail)
    else:
        monkeypatch.setattr(Path, where, fail)
    with pytest.raises(DecodeError, match=os.strerror(number)) as refused, open_item_file(this):
        pass
    assert refused.value.error == "unavailable"
    with pytest.raises(DecodeError):
        hash_item_file(this)
    if where == "stat":
        # Not to be taken for a file that is not there.
        with pytest.raises(DecodeError):
            file_stat(this)


def test_a_name_with_a_null_byte_is_missing(tmp_path: Path) -> None:
    this = ItemFile(Item("null", "a\0b.mp4", "video"), str(tmp_path))
    assert file_stat(this) is None and hash_item_file(this) is None
    with pytest.raises(DecodeError) as refused, open_item_file(this):
        pass
    assert refused.value.error == "missing"


def test_a_file_is_known_by_its_bytes(file: Path, tmp_path: Path) -> None:
    state = file_state(file)
    assert state.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert state.size_bytes == file.stat().st_size
    copy = shutil.copyfile(file, tmp_path / "copy.mp4")
    assert file_state(copy).sha256 == state.sha256


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with a film, beside one with another."""
    for name in ("corpus", "elsewhere"):
        (tmp_path / name / "films").mkdir(parents=True)
        (tmp_path / name / "films" / "a.mp4").write_text(name)
    return tmp_path / "corpus"


def source(corpus: Path, uri: object) -> ItemFile:
    return ItemFile(Item("a", str(uri), "video"), str(corpus))


@pytest.mark.parametrize("absolute", [False, True])
def test_a_link_that_leads_out_is_refused_before_it_is_opened(absolute: bool, corpus: Path) -> None:
    link = corpus / "films" / "link.mp4"
    link.symlink_to("../../elsewhere/films/a.mp4")
    with (
        pytest.raises(DecodeError, match=r"leads to .*elsewhere") as refused,
        open_item_file(source(corpus, link if absolute else "films/link.mp4")),
    ):
        pass
    assert refused.value.error == "refused"


def test_a_link_that_stays_inside_is_followed(corpus: Path) -> None:
    (corpus / "films" / "link.mp4").symlink_to("a.mp4")
    # The folder itself may be a link: it is what the corpus' maker named.
    (corpus / "linked").symlink_to(corpus.parent / "elsewhere" / "films")
    for uri in ("films/link.mp4", corpus / "films" / "link.mp4", corpus / "linked" / "a.mp4"):
        with open_item_file(source(corpus, uri)) as (path, state):
            assert path.read_text() in ("corpus", "elsewhere") and state.sha256


@pytest.mark.parametrize("uri", ["../elsewhere/films/a.mp4", "films/../../elsewhere/films/a.mp4"])
def test_a_path_that_climbs_out_is_refused(uri: str, corpus: Path) -> None:
    with (
        pytest.raises(DecodeError, match="leads out") as refused,
        open_item_file(source(corpus, uri)),
    ):
        pass
    assert refused.value.error == "refused"


def test_an_url_of_this_machine_is_a_path(corpus: Path) -> None:
    film = corpus / "films" / "a.mp4"
    with open_item_file(source(corpus, f"file://{film}")) as (path, _):
        assert path == film


def test_what_is_known_of_a_file_that_is_not_read(corpus: Path) -> None:
    state, unread = (f(source(corpus, "films/a.mp4")) for f in (hash_item_file, unread_file_state))
    assert unread is not None and state is not None
    assert (unread.sha256, unread.size_bytes, unread.mtime_ns) == (None, 6, state.mtime_ns)
    assert unread_file_state(source(corpus, "films/gone.mp4")) is None


def member_of(corpus: Path, uri: str, offset: int = 2, size_bytes: int = 3) -> ItemFile:
    return source(corpus, Member(uri, offset, size_bytes).to_uri())


@pytest.mark.parametrize("place", ["relative", "absolute", "remote"])
def test_a_member_is_a_range_of_bytes(place: str, corpus: Path) -> None:
    uri = {"relative": "films/a.mp4", "absolute": f"{corpus}/films/a.mp4"}.get(place)
    member = member_of(corpus, uri or "")
    if uri is None:
        films = as_path("memory://tars")
        films.fs.pipe_file(f"{films.path}/a.tar", b"corpus")
        member = ItemFile(Item("a", Member("a.tar", 2, 3).to_uri(), "video"), str(films))
    with open_item_file(member) as (path, state):
        assert path.read_bytes() == b"rpu"
    assert state.sha256 == hashlib.sha256(b"rpu").hexdigest()
    assert file_stat(member) == (3, state.mtime_ns) == (state.size_bytes, state.mtime_ns)


@pytest.mark.parametrize(
    ("uri", "offset", "size_bytes", "error"),
    [
        ("films/a.mp4", 4, 3, "unreadable"),
        ("films/a.mp4", 100, 3, "unreadable"),
        ("films/a.mp4", 0, 0, "empty"),
        ("films/gone.tar", 0, 3, "missing"),
        ("../elsewhere/films/a.mp4", 0, 3, "refused"),
        ("films/link.tar", 0, 3, "refused"),
        ("http://169.254.169.254/a.tar", 0, 3, "refused"),
    ],
)
def test_a_member_that_cannot_be_read_is_named(
    uri: str, offset: int, size_bytes: int, error: str, corpus: Path
) -> None:
    (corpus / "films" / "link.tar").symlink_to("../../elsewhere/films/a.mp4")
    member = member_of(corpus, uri, offset, size_bytes)
    with pytest.raises(DecodeError) as refused, open_item_file(member):
        pass
    assert refused.value.error == error
    assert hash_item_file(member) is None


STRANGE = ["a#b?c%d.mp4", "two\nlines.mp4", "\u043a\u043b\u044e\u0447 1.mp4", "x" * 200 + ".mp4"]


@pytest.mark.parametrize("name", STRANGE)
def test_objects_of_any_name_are_read(name: str, object_store: Path, tmp_path: Path) -> None:
    place = as_path(f"s3://bucket/{tmp_path.name}")
    place.fs.pipe_file(f"{place.path}/{name}", b"a film")
    for uri in (name, f"{place}/{name}"):
        with open_item_file(ItemFile(Item("a", uri, "video"), str(place))) as (path, state):
            assert path.read_bytes() == b"a film" and state.size_bytes == 6


def test_a_server_that_does_not_answer_is_not_the_items_fault(
    object_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv(VARIABLE, "s3://other")
    monkeypatch.setattr("intertitle.pipeline.storage.object_store.DEADLINE_S", 1.0)
    item = Item("a", "s3://other/a.mp4", "video")
    UPath("s3://other", use_listings_cache=False).fs.clear_instance_cache()
    try:
        with pytest.raises(DecodeError) as refused, open_item_file(ItemFile(item, "/nowhere")):
            pass
    finally:
        UPath("s3://other", use_listings_cache=False).fs.clear_instance_cache()
    assert refused.value.error == "unavailable"


@pytest.mark.parametrize(
    ("uri", "corpus", "allowed", "is_opened"),
    [
        ("http://169.254.169.254/latest/meta-data", "/corpus", "", False),
        ("http://169.254.169.254/latest/meta-data", "s3://mine/corpus", "", False),
        ("s3://yours/a.mp4", "s3://mine/corpus", "", False),
        ("s3://mine/a.mp4", "s3://mine/corpus", "", True),
        ("file://simplecache::http://169.254.169.254/a.mp4", "/corpus", "", False),
        ("a.mp4", "s3://mine/corpus", "", True),
        ("s3://yours/a.mp4", "/corpus", "s3://yours, https://example.org/", True),
        ("s3://yours-too/a.mp4", "/corpus", "s3://yours", False),
        ("https://example.org/a.mp4", "/corpus", "s3://yours,https://example.org/", True),
        ("http://example.org/a.mp4", "/corpus", "https://example.org", False),
        ("https://example.org:8443/a.mp4", "/corpus", "https://example.org", False),
        ("https://example.org@169.254.169.254/a.mp4", "/corpus", "https://example.org", False),
        ("zip://a.mp4::https://example.org/a.zip", "/corpus", "https://example.org", False),
    ],
)
def test_a_url_leads_to_where_the_corpus_is_or_to_a_host_on_the_list(
    uri: str, corpus: str, allowed: str, is_opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def get(path: UPath) -> NoReturn:
        asked.append(str(path))
        raise FileNotFoundError

    def send(session: requests.Session, request: requests.PreparedRequest, **_: object) -> NoReturn:
        asked.append(str(request.url))
        raise FileNotFoundError

    monkeypatch.setattr(requests.Session, "send", send)
    monkeypatch.setattr(UPath, "stat", get)
    for scheme in ("https", "http", "s3", "zip"):
        monkeypatch.setattr(type(UPath(f"{scheme}://a/b")), "stat", get)
    monkeypatch.setenv(VARIABLE, allowed)
    found = ItemFile(Item("a", uri, "video"), corpus)
    # Wherever it travels.
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(DecodeError) as failed, open_item_file(found):
        pass
    assert failed.value.error == ("missing" if is_opened else "refused")
    assert file_stat(found) is None
    assert bool(asked) == is_opened
    if not is_opened:
        assert "--allow-host" in failed.value.message


@pytest.mark.parametrize(
    "name", ["example.org", "s3://", "https://me:secret@example.org", "s3://a/b"]
)
def test_an_entry_of_the_list_is_a_host(name: str) -> None:
    with pytest.raises(UserError, match=r"--allow-host: .*, allowed: SCHEME://HOST"):
        parse_hosts([name])


@pytest.mark.parametrize("error", [FileNotFoundError("of the block"), OSError(EIO, "of the block")])
def test_errors_of_the_block_are_not_errors_of_a_remote_file(error: OSError) -> None:
    corpus = as_path("memory://films")
    corpus.fs.pipe_file(f"{corpus.path}/a.mp4", b"some bytes")
    source = ItemFile(Item("a", "a.mp4", "video"), str(corpus))
    with pytest.raises(OSError, match="of the block") as raised, open_item_file(source):
        raise error
    assert raised.value is error
