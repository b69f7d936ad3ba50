"""URLs: allowed hosts alone, and never an address of the private network."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.http.fetch import Fetcher, is_public

# Stands for a public address; 127.0.0.1 is a private one.
PUBLIC = "127.0.0.2"


class Site:
    """A site with files, redirects and a slow answer; counts its requests by path."""

    def __init__(self, host: str) -> None:
        self.paths: list[str] = []
        self.redirects: dict[str, str] = {}
        self.ended = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.paths.append(self.path)
                if self.path == "/slow":
                    site.ended.wait(10)
                target = site.redirects.get(self.path)
                self.send_response(302 if target else 200)
                if target:
                    self.send_header("Location", target)
                self.end_headers()
                if self.path == "/endless":
                    while not site.ended.is_set():
                        try:
                            self.wfile.write(b"x" * 65536)
                        except OSError:
                            return
                self.wfile.write(b"content")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    public, private = Site(PUBLIC), Site("127.0.0.1")
    yield public, private
    public.close()
    private.close()


def fetch(url: str, *hosts: str, **options: float) -> bytes:
    settings = {"max_bytes": 10_000, "seconds": 5.0, **options}
    fetcher = Fetcher(
        hosts, int(settings["max_bytes"]), settings["seconds"], lambda address: address == PUBLIC
    )
    return asyncio.run(fetcher.fetch(url, "inputs.0.url"))


def refusal(url: str, *hosts: str, **options: float) -> str:
    with pytest.raises(ApiError) as refused:
        fetch(url, *hosts, **options)
    assert refused.value.field == "inputs.0.url"
    return refused.value.allowed


def test_a_file_of_an_allowed_host(sites: tuple[Site, Site]) -> None:
    public, _ = sites
    public.redirects = {"/a": "/b"}
    assert fetch(f"{public.url}/a", public.url) == b"content"
    assert public.paths == ["/a", "/b"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "ftp://127.0.0.2/a",
        "http://user:password@127.0.0.2/a",
        "http://",
        "http://[::1",
    ],
)
def test_what_is_no_public_url(url: str) -> None:
    allowed = refusal(url, "http://127.0.0.2", "file://", "ftp://127.0.0.2", "http://")
    assert allowed in ("http:// or https:// without credentials", "a URL")


def test_a_host_that_is_not_on_the_list(sites: tuple[Site, Site]) -> None:
    public, _ = sites
    assert refusal(public.url).startswith("a URL on: none")
    # Another port is another host.
    assert refusal(public.url, f"http://{PUBLIC}").startswith("a URL on: ")
    assert public.paths == []


def test_private_addresses_are_refused_although_they_are_on_the_list(
    sites: tuple[Site, Site],
) -> None:
    _, private = sites
    port = private.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "127.1", "0x7f000001", "[::1]"):
        url = f"http://{host}:{port}/"
        allowed = refusal(url, f"http://{host}:{port}")
        assert "public addresses" in allowed or "can be fetched" in allowed, url
    assert private.paths == []


def test_a_redirect_into_the_private_network(sites: tuple[Site, Site]) -> None:
    public, private = sites
    public.redirects = {"/a": private.url, "/b": "file:///etc/passwd", "/c": "/c"}
    assert refusal(f"{public.url}/a", public.url).startswith("a URL on: ")
    assert "public addresses" in refusal(f"{public.url}/a", public.url, private.url)
    assert "http:// or https://" in refusal(f"{public.url}/b", public.url)
    assert "redirects" in refusal(f"{public.url}/c", public.url)
    assert private.paths == []


def test_limits_of_size_and_time(sites: tuple[Site, Site]) -> None:
    public, _ = sites
    assert refusal(f"{public.url}/endless", public.url) == "a file of at most 10,000 bytes"
    assert "within 0.5 s" in refusal(f"{public.url}/slow", public.url, seconds=0.5)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07::1", True),
        ("169.254.169.254", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("fe80::1%lo", False),
        ("fd00::1", False),
        ("fec0::1", False),
        ("5f00::1", False),
        ("::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::5db8:d70e", True),
        ("168.63.129.16", False),
        ("::ffff:168.63.129.16", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public
