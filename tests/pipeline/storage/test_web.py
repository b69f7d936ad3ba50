"""Files by http: limits, further tries, redirects and servers that opt out."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import ItemFile, file_stat, open_item_file
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage import web
from intertitle.pipeline.storage.web import USER_AGENT_VARIABLE, RefusedError, WebClient, user_agent

BODY = b"0123456789" * 1000
LIMITS = Limits(seconds=30, download_mb=1)
DATE = "Mon, 02 Nov 2026 10:00:00 GMT"


class Handler(BaseHTTPRequestHandler):
    """Answers by the path of the URL, and notes the requests."""

    requests: list[tuple[str, str, str | None]]

    def do_GET(self) -> None:
        self.requests.append((self.command, self.path, self.headers.get("User-Agent")))
        name = self.path.strip("/").partition("?")[0]
        count = sum(path == self.path and method == "GET" for method, path, _ in self.requests)
        match name.split("/"):
            case ["status", status]:
                return self._send(int(status), b"")
            case ["busy", times]:
                return self._send(200, BODY) if count > int(times) else self._send(503, b"")
            case ["robots", value]:
                return self._send(200, BODY, {"X-Robots-Tag": value.replace("_", " ")})
            case ["to", *target]:
                place = f"/{'/'.join(target)}".replace("/http:/", "http://")
                return self._send(302, b"", {"Location": place})
            case ["short"]:
                return self._send(200, BODY[:50], {"Content-Length": str(len(BODY))})
            case ["slow"]:
                self._send(200, b"", {"Content-Length": "100"})
                with suppress(OSError):
                    for _ in range(100):
                        self.wfile.write(b"x")
                        time.sleep(0.1)
                return None
            case ["length", value]:
                return self._send(200, BODY, {"Content-Length": value, "Connection": "close"})
            case ["endless"]:
                self._send(200, b"", {"Content-Length": str(10**9)})
                for _ in range(40):
                    self.wfile.write(bytes(1 << 20))
                return None
            case ["no-head"] if self.command == "HEAD":
                return self._send(405, b"")
        if (range_header := self.headers.get("Range")) and name == "tar":
            first, last = map(int, range_header.removeprefix("bytes=").split("-"))
            return self._send(206, BODY[first : last + 1])
        return self._send(200, BODY)

    do_HEAD = do_GET  # noqa: N815

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        known = {"Content-Length": str(len(body)), "Last-Modified": DATE}
        for name, value in {**known, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Handler.requests = []
    monkeypatch.setattr(web, "MAX_PAUSE_S", 0.05)
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


@pytest.fixture
def read(server: str) -> Callable[..., bytes]:
    def read(path: str, limits: Limits = LIMITS, prefix: str = "") -> bytes:
        item = Item("a", f"{prefix}{server}/{path}", "image")
        with open_item_file(ItemFile(item, "/corpus", hosts=(server,)), limits) as (copy, state):
            assert state.size_bytes == copy.stat().st_size and state.sha256
            return copy.read_bytes()

    return read


@pytest.mark.parametrize(
    "path", ["a.jpg", "a.jpg?size=3#part", "busy/2", "to/a.jpg", "to/to/a.jpg"]
)
def test_a_file_is_read_in_the_end(path: str, read: Callable[..., bytes]) -> None:
    assert read(path) == BODY


def test_a_member_of_a_remote_tar_is_requested_as_a_range(read: Callable[..., bytes]) -> None:
    assert read("tar", prefix="bytes://5+10/") == BODY[5:15]
    with pytest.raises(DecodeError, match="does not send parts"):
        read("whole", prefix="bytes://5+10/")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("status/404", "missing", "gone: status 404"),
        ("status/410", "missing", "gone: status 410"),
        ("status/403", "refused", "status 403"),
        ("status/204", "empty", "has no bytes"),
        ("busy/99", "unavailable", "status 503"),
        ("short", "unavailable", "IncompleteRead"),
        ("robots/noai", "refused", "opts out: X-Robots-Tag: noai"),
        ("robots/noindex,_nofollow", "refused", "opts out"),
        ("robots/intertitle:_NoImageAI", "refused", "opts out"),
        ("robots/max-image-preview:large,_noai", "refused", "opts out"),
        ("robots/noindex,_unavailable_after:_25_Jun_2036_15:00:00_PST", "refused", "opts out"),
        ("robots/googlebot:_nofollow,_intertitle:_noai", "refused", "opts out"),
        ("to/to/to/to/to/to/a.jpg", "refused", "more than 5 redirects"),
        ("to/http:/169.254.169.254/latest", "refused", "redirected to http://169.254.169.254"),
        ("endless", "too_large", "bytes, allowed: 1,048,576"),
    ],
)
def test_what_is_not_to_be_had_is_named(
    path: str, error: str, message: str, read: Callable[..., bytes]
) -> None:
    with pytest.raises(DecodeError, match=message) as raised:
        read(path)
    assert raised.value.error == error


@pytest.mark.parametrize(
    "value", ["nofollow", "googlebot:_nofollow,_noai", "unavailable_after:_25_Jun_2036"]
)
def test_other_directives_do_not_opt_out(value: str, read: Callable[..., bytes]) -> None:
    assert read(f"robots/{value}") == BODY


def test_a_slow_server_is_given_up_at_the_time_limit(read: Callable[..., bytes]) -> None:
    start = time.monotonic()
    with pytest.raises(DecodeError, match=r"takes more than 0\.5 s") as raised:
        read("slow", Limits(seconds=0.5, download_mb=1))
    assert raised.value.error == "unavailable" and time.monotonic() - start < 5


def test_a_length_that_is_no_number_does_not_count(read: Callable[..., bytes]) -> None:
    assert read("length/many") == BODY


@pytest.mark.parametrize(
    "url",
    [
        "http://{}\\@allowed.example/a.jpg",
        "http://me@allowed.example/a.jpg",
        "http://allowed.example /a.jpg",
        "http://allowed.example/a\n.jpg",
        "http://[allowed.example/a.jpg",
    ],
)
def test_a_url_that_programs_read_differently_is_refused(url: str, server: str) -> None:
    url = url.format(server.removeprefix("http://"))
    source = ItemFile(Item("a", url, "image"), "/corpus", hosts=("http://allowed.example",))
    with pytest.raises(DecodeError) as raised, open_item_file(source):
        pass
    assert raised.value.error == "refused"
    # Even if the list of hosts let it pass.
    if "\\" in url:
        with pytest.raises(RefusedError, match="allowed: one host"):
            WebClient(lambda url: True, "test").fetch(url, io.BytesIO())
    assert not Handler.requests


def test_a_server_that_is_not_there_is_unavailable() -> None:
    source = ItemFile(
        Item("a", "http://127.0.0.1:9/a.jpg", "image"), "/", hosts=("http://127.0.0.1:9",)
    )
    with pytest.raises(DecodeError) as raised, open_item_file(source):
        pass
    assert raised.value.error == "unavailable"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a.jpg", len(BODY)), ("no-head", -1), ("status/404", None), ("status/451", None)],
)
def test_size_and_time_are_known_without_the_file(
    path: str, expected: int | None, server: str
) -> None:
    found = file_stat(ItemFile(Item("a", f"{server}/{path}", "image"), "/", hosts=(server,)))
    assert (found and found[0]) == expected
    assert [method for method, _, _ in Handler.requests] == ["HEAD"]


def test_the_user_agent_is_set_by_a_variable(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(USER_AGENT_VARIABLE, "Museum archive (me@example.org)")
    source = ItemFile(Item("a", f"{server}/a.jpg", "image"), "/", hosts=(server,))
    # Wherever it travels.
    monkeypatch.delenv(USER_AGENT_VARIABLE)
    with open_item_file(source):
        pass
    assert Handler.requests[-1][2] == "Museum archive (me@example.org)"
    assert user_agent().startswith("intertitle/")
    monkeypatch.setenv(USER_AGENT_VARIABLE, "two\nlines")
    with pytest.raises(UserError, match=r"--user-agent: .*, allowed: printable"):
        user_agent()
