"""A server that speaks as much S3 as the tests of the storage need, and answers as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Literal

import pytest

from intertitle.pipeline.storage import object_store

BODY = "<Error><Code>{}</Code><Message>of the test</Message></Error>"


@dataclass
class Server:
    """What a server is to answer, and what it was asked.

    Attributes:
        answers: to the next requests, each (status, code of the error, headers); then it obeys.
        always: the answer to each request whose credentials are not `accepted`, or None.
        accepted: the access key that it accepts, or None for any.
        conditions: how it treats `If-None-Match: *`.
        lost: how many writes it obeys and answers as if it were busy.
        asked: "METHOD path" of each request.
        stored: what was put, by path.
    """

    url: str = ""
    answers: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)
    always: tuple[int, str] | None = None
    accepted: str | None = None
    conditions: Literal["honoured", "ignored", "refused"] = "ignored"
    lost: int = 0
    asked: list[str] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    told, one_at_a_time = Server(), Lock()

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
                self.write(path, sent)
            elif self.command == "DELETE":
                told.stored.pop(path, None)
                self.say(204, b"")
            elif path in told.stored:
                when = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", "ETag": '"1"'}
                self.say(200, told.stored[path], when)
            else:
                self.say(404, BODY.format("NoSuchKey").encode())

        def write(self, path: str, sent: bytes) -> None:
            conditional = self.headers.get("If-None-Match") == "*"
            if conditional and told.conditions == "refused":
                self.say(501, BODY.format("NotImplemented").encode())
                return
            with one_at_a_time:
                exists = path in told.stored
                if conditional and exists and told.conditions == "honoured":
                    self.say(412, BODY.format("PreconditionFailed").encode())
                    return
                told.stored[path] = sent
            if told.lost:
                told.lost -= 1
                self.say(503, BODY.format("SlowDown").encode())
            else:
                self.say(200, b"")

        do_GET = do_HEAD = do_PUT = do_DELETE = answer  # noqa: N815

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
