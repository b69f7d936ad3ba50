"""S3 through one layer of retries, against a server that answers as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from upath import UPath

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import ItemFile, file_stat, open_item_file
from intertitle.pipeline.feature_store.snapshot import current_id
from intertitle.pipeline.storage import object_store
from intertitle.pipeline.storage.faults import CredentialsError, UnavailableError
from intertitle.pipeline.storage.paths import as_path, atomic_write
from tests.pipeline.storage.conftest import Server


@pytest.fixture
def film(server: Server) -> UPath:
    """A file that is there; nothing has asked for it yet."""
    server.stored |= {"/bucket": b"", "/bucket/a.mp4": b"a film"}
    return as_path("s3://bucket/a.mp4")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, without waiting so long."""
    seen: list[float] = []
    pause = object_store._pause

    def short(state: object) -> float:
        seen.append(pause(state))  # type: ignore[arg-type]
        return 0.001

    monkeypatch.setattr(object_store, "_pause", short)
    return seen


SLOW_DOWN = (503, "SlowDown", {})


@pytest.mark.parametrize(
    "answer",
    [SLOW_DOWN, (429, "TooManyRequests", {}), (500, "InternalError", {}), (503, "", {})],
    ids=lambda answer: str(answer[:2]),
)
def test_a_busy_server_is_asked_again_and_no_request_is_multiplied(
    answer: tuple[int, str, dict[str, str]], server: Server, film: UPath, pauses: list[float]
) -> None:
    server.answers = [answer] * 3
    with open_item_file(ItemFile(Item("a", str(film), "video"), "s3://bucket")) as (path, state):
        assert path.read_bytes() == b"a film" and state.size_bytes == 6
    # Three refusals of the first request, then the two that reading a file takes.
    assert server.asked == ["HEAD /bucket/a.mp4"] * 4 + ["GET /bucket/a.mp4"]
    server.asked.clear()
    server.answers = [answer] * 3
    atomic_write(film, lambda file: file.write(b"another"))
    others = ["PUT /bucket/a.mp4", "HEAD /bucket/a.mp4"]
    assert server.asked == ["HEAD /bucket"] * 4 + others
    assert server.stored["/bucket/a.mp4"] == b"another"
    assert len(pauses) == 6 and len(set(pauses)) == 6


def test_the_server_says_how_long_to_wait(server: Server, film: UPath, pauses: list[float]) -> None:
    server.answers = [(503, "SlowDown", {"Retry-After": "7"})]
    assert film.read_bytes() == b"a film"
    (pause,) = pauses
    assert 7 <= pause <= 8


def test_reads_and_writes_have_one_deadline_and_then_the_item_is_unavailable(
    server: Server, film: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "DEADLINE_S", 0.5)
    server.always = (503, "SlowDown")
    with (
        pytest.raises(DecodeError, match=r"no proper answer within 0\.5 s") as refused,
        open_item_file(ItemFile(Item("a", str(film), "video"), "s3://bucket")),
    ):
        pass
    assert refused.value.error == "unavailable"
    reads = len(server.asked)
    with pytest.raises(UnavailableError, match=r"no proper answer within 0\.5 s"):
        atomic_write(film, lambda file: file.write(b"another"))
    # As many as fit in the time, not that number times the layers.
    assert 0 < reads < 12 and 0 < len(server.asked) - reads < 12
    # A store that can't be looked at is not a new one.
    with pytest.raises(UnavailableError):
        current_id(as_path("s3://bucket/store"))
    with pytest.raises(UnavailableError):
        film.is_file()


@pytest.mark.parametrize(("status", "code"), [(400, "ExpiredToken"), (403, "InvalidAccessKeyId")])
def test_expired_credentials_are_renewed_through_the_chain(
    status: int, code: str, server: Server, film: UPath, tmp_path: Path
) -> None:
    server.always, server.accepted = (status, code), "OLD"
    assert film.read_bytes() == b"a film"
    server.accepted = "NEW"
    renewed = "[default]\naws_access_key_id=NEW\naws_secret_access_key=secret\n"
    (tmp_path / "credentials").write_text(renewed)
    with open_item_file(ItemFile(Item("a", str(film), "video"), "s3://bucket")) as (path, _):
        assert path.read_bytes() == b"a film"
    atomic_write(film, lambda file: file.write(b"another"))
    assert server.stored["/bucket/a.mp4"] == b"another"


def test_credentials_that_stay_refused_end_the_job_at_once(server: Server, film: UPath) -> None:
    server.always, server.accepted = (400, "ExpiredToken"), "NEW"
    source = ItemFile(Item("a", str(film), "video"), "s3://bucket")
    refused = r"s3://bucket: the credentials are refused.*renew"
    with pytest.raises(CredentialsError, match=refused), open_item_file(source):
        pass
    assert len(server.asked) < 8
    # They say nothing about whether the file is there.
    with pytest.raises(CredentialsError, match=refused):
        file_stat(source)


def test_an_object_that_may_not_be_read_is_not_a_matter_of_credentials(
    server: Server, film: UPath
) -> None:
    server.always = (403, "AccessDenied")
    with (
        pytest.raises(DecodeError) as refused,
        open_item_file(ItemFile(Item("a", str(film), "video"), "s3://bucket")),
    ):
        pass
    assert refused.value.error == "unavailable"


def test_an_object_is_created_once(server: Server) -> None:
    server.conditions = "honoured"
    fs = as_path("s3://bucket/a").fs
    assert fs.create_file("bucket/a", b"first") and not fs.create_file("bucket/a", b"second")
    assert server.stored == {"/bucket/a": b"first"}
    server.conditions = "refused"
    with pytest.raises(NotImplementedError, match="bucket/b"):
        fs.create_file("bucket/b", b"first")
    server.always = (403, "AccessDenied")
    with pytest.raises(PermissionError):
        fs.create_file("bucket/b", b"first")
