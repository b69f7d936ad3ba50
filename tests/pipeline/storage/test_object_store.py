"""S3 through one layer of retries, against a server that answers as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from upath import UPath

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import ItemFile, open_item_file
from intertitle.pipeline.feature_store.snapshot import current_id
from intertitle.pipeline.storage import object_store
from intertitle.pipeline.storage.faults import CredentialsError, UnavailableError
from intertitle.pipeline.storage.paths import as_path, atomic_write

BODY = "<Error><Code>{}</Code><Message>of the test</Message></Error>"


@dataclass
class Server:
    """What a server is to answer, and what it was asked.

    Attributes:
        answers: to the next requests, each (status, code of the error, headers); then it obeys.
        always: the answer to each request whose credentials are not `accepted`, or None.
        accepted: the access key that it accepts, or None for any.
        asked: "METHOD path" of each request.
        stored: what was put, by path.
    """

    url: str = ""
    answers: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)
    always: tuple[int, str] | None = None
    accepted: str | None = None
    asked: list[str] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def answer(self) -> None:
            path = self.path.partition("?")[0]
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told.asked.append(f"{self.command} {path}")
            known = told.accepted is None or told.accepted in self.headers["Authorization"]
            if told.answers:
                status, code, headers = told.answers.pop(0)
                self.say(status, BODY.format(code).encode(), headers)
            elif told.always and not (told.accepted and known):
                self.say(told.always[0], BODY.format(told.always[1]).encode())
            elif self.command == "PUT":
                told.stored[path] = sent
                self.say(200, b"")
            elif path in told.stored:
                when = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", "ETag": '"1"'}
                self.say(200, told.stored[path], when)
            else:
                self.say(404, BODY.format("NoSuchKey").encode())

        do_GET = do_HEAD = do_PUT = answer  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        told.url = f"http://127.0.0.1:{http.server_address[1]}"
        Thread(target=http.serve_forever, daemon=True).start()
        credentials = tmp_path / "credentials"
        credentials.write_text("[default]\naws_access_key_id=OLD\naws_secret_access_key=secret\n")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
        monkeypatch.setenv("AWS_ENDPOINT_URL", told.url)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        object_store.PatientS3.clear_instance_cache()
        yield told
        object_store.PatientS3.clear_instance_cache()
        http.shutdown()


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
    with (
        pytest.raises(CredentialsError, match=r"s3://bucket: the credentials are refused.*renew"),
        open_item_file(ItemFile(Item("a", str(film), "video"), "s3://bucket")),
    ):
        pass
    assert len(server.asked) < 8


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
