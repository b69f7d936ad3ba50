"""URLs: allowed hosts alone, and never an address of the private network."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.http.capacity import Capacity
from intertitle.jobs.serving.http.fetch import Fetcher, is_public
from tests.jobs.serving.site import Site

# Stands for a public address; 127.0.0.1 is a private one.
PUBLIC = "127.0.0.2"


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    public, private = Site(PUBLIC), Site("127.0.0.1")
    yield public, private
    public.close()
    private.close()


def fetcher_for(
    *hosts: str, max_bytes: int = 10_000, seconds: float = 5.0, free_bytes: int = 2**20
) -> Fetcher:
    claim = Capacity(free_bytes).claim(0)
    return Fetcher(hosts, max_bytes, seconds, claim, lambda address: address == PUBLIC)


def fetch(url: str, *hosts: str, **options: Any) -> bytes:
    return asyncio.run(fetcher_for(*hosts, **options).fetch(url, "inputs.0.url"))


def refusal(url: str, *hosts: str, **options: Any) -> str:
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
    allowed = refusal(f"{public.url}/endless", public.url)
    assert allowed == "files of at most 10,000 bytes together"
    assert "within 0.5 s" in refusal(f"{public.url}/slow", public.url, seconds=0.5)


def test_the_limits_hold_for_all_files_of_a_request_together(sites: tuple[Site, Site]) -> None:
    public, _ = sites

    async def fetch_twice(wait: float = 0, **options: Any) -> ApiError:
        fetcher = fetcher_for(public.url, **options)
        assert await fetcher.fetch(public.url, "inputs.0.url") == b"content"
        await asyncio.sleep(wait)
        with pytest.raises(ApiError) as refused:
            await fetcher.fetch(public.url, "inputs.1.url")
        return refused.value

    assert asyncio.run(fetch_twice(max_bytes=13)).status == 413
    assert "within 1 s together" in asyncio.run(fetch_twice(wait=1, seconds=1.0)).allowed
    # The bytes of other requests count too.
    assert asyncio.run(fetch_twice(free_bytes=13)).status == 503


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
