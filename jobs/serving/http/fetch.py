"""Fetch files by URL from allowed hosts, and never from the private network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.http.capacity import Claim
from intertitle.pipeline.errors import one_line
from intertitle.pipeline.storage.allowed_hosts import host_of

_MAX_REDIRECTS = 3
_CHUNK_BYTES = 1 << 16
# Addresses by which a network of IPv6 alone reaches those of IPv4.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# A public address by which machines of Azure reach its services for them.
_AZURE = ipaddress.IPv4Address("168.63.129.16")


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        mapped = ip.ipv4_mapped or ip.sixtofour
        if ip.is_site_local or (mapped is not None and not is_public(str(mapped))):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and ip != _AZURE


class _PrivateAddressError(OSError):
    """A name stands for an address that is not fetched from."""


class _CheckedResolver(AbstractResolver):
    """Resolver whose addresses are the ones that are connected to, all of them checked."""

    def __init__(self, accepts: Callable[[str], bool]) -> None:
        self._accepts = accepts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        if not all(self._accepts(str(address[0])) for *_, address in addresses):
            raise _PrivateAddressError(host)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, address in addresses
        ]

    async def close(self) -> None:
        pass


class Fetcher:
    """Fetches the files of one request from a list of hosts.

    Args:
        allowed_hosts: hosts, SCHEME://HOST.
        max_bytes: maximum size of all files together.
        seconds: time limit for all files, with their redirects.
        claim: bytes that the request holds, which the files are added to.
        accepts: function that decides whether an IP address may be connected to.
    """

    def __init__(
        self,
        allowed_hosts: Sequence[str],
        max_bytes: int,
        seconds: float,
        claim: Claim,
        accepts: Callable[[str], bool] = is_public,
    ) -> None:
        self._hosts, self._max_bytes, self._seconds = tuple(allowed_hosts), max_bytes, seconds
        self._claim, self._accepts = claim, accepts
        self._num_bytes = 0
        self._deadline: float | None = None

    async def fetch(self, url: str, field: str) -> bytes:
        """Fetch a file.

        Args:
            url: http or https URL.
            field: name of the URL's field in the request.

        Raises:
            ApiError: the URL or a redirect names a host that is not allowed or a private address,
                or the file cannot be fetched within the limits.
        """
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        connector = aiohttp.TCPConnector(resolver=_CheckedResolver(self._accepts))
        # No proxy, cookies or credentials of this process are used.
        try:
            async with (
                asyncio.timeout_at(self._deadline),
                aiohttp.ClientSession(connector=connector) as session,
            ):
                for _ in range(_MAX_REDIRECTS + 1):
                    self._check(url, field)
                    async with session.get(url, allow_redirects=False) as response:
                        if response.status not in (301, 302, 303, 307, 308):
                            return await self._read(response, url, field)
                        url = urljoin(url, response.headers.get("Location", ""))
                allowed = f"a URL with at most {_MAX_REDIRECTS} redirects"
                raise ApiError(422, field, one_line(url), allowed)
        except TimeoutError as error:
            allowed = f"files that come within {self._seconds:g} s together"
            raise ApiError(422, field, one_line(url), allowed) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error.__cause__, _PrivateAddressError):
                raise self._refusal(url, field) from error
            raise ApiError(
                422, field, one_line(url), f"a file that can be fetched: {error}"
            ) from error

    def _check(self, url: str, field: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ApiError(422, field, one_line(url), "a URL") from error
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise ApiError(422, field, one_line(url), "http:// or https:// without credentials")
        if host_of(url) not in self._hosts:
            allowed = ", ".join(self._hosts) or "none; the server was started without --allow-host"
            raise ApiError(422, field, one_line(url), f"a URL on: {allowed}")
        # An address is not resolved, so the resolver does not check it.
        if _is_address(host) and not self._accepts(host):
            raise self._refusal(url, field)

    def _refusal(self, url: str, field: str) -> ApiError:
        return ApiError(422, field, one_line(url), "a host with public addresses alone")

    async def _read(self, response: aiohttp.ClientResponse, url: str, field: str) -> bytes:
        if response.status != 200:
            allowed = f"a file that can be fetched: status {response.status}"
            raise ApiError(422, field, one_line(url), allowed)
        content: Any = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            self._num_bytes += len(chunk)
            if self._num_bytes > self._max_bytes:
                allowed = f"files of at most {self._max_bytes:,} bytes together"
                raise ApiError(413, field, one_line(url), allowed)
            self._claim.grow(len(chunk))
            content += chunk
        return bytes(content)


def _is_address(host: str) -> bool:
    """Return whether a host is an IP address in its usual notation."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # Such as 0x7f.1, which getaddrinfo reads as an address and aiohttp as a name.
        return False
    return True
