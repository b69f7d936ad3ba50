"""Which hosts an item's URL may name: a corpus from somebody else may name any.

Whoever reads a corpus does so with their own keys, from inside their own network. So of URLs only
those are opened that lead to where the corpus itself is, and to the hosts on a list.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from pipeline.errors import UserError

# The list, for programs that start others: SCHEME://HOST, with commas between them.
VARIABLE = "INTERTITLE_ALLOW_HOST"
_LOCAL = re.compile(r"(file|local)://", re.IGNORECASE)
_ENTRY = re.compile(r"[a-z][a-z0-9+.-]*://[^/@\s,?#]+", re.IGNORECASE)


def allowed_hosts() -> tuple[str, ...]:
    """The hosts that this process' environment allows.

    Raises:
        UserError: one of them is none.
    """
    listed = tuple(name.strip() for name in os.environ.get(VARIABLE, "").split(","))
    return parse_hosts(name for name in listed if name)


def parse_hosts(names: Iterable[str]) -> tuple[str, ...]:
    """Hosts or buckets as they are compared.

    Raises:
        UserError: one of them is not SCHEME://HOST.
    """
    hosts = []
    for name in names:
        if not _ENTRY.fullmatch(name.rstrip("/")):
            raise UserError(f"--allow-host: {name!r}, allowed: SCHEME://HOST, such as s3://bucket")
        hosts.append(host_of(name))
    return tuple(hosts)


def host_of(url: str) -> str:
    """Scheme and host, or bucket, of an URL; of a password in it nothing is left."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


def is_allowed(url: str, corpus: str, hosts: Sequence[str]) -> bool:
    """Whether an item's URL is of a local file, of where its corpus is, or of a host on the list.

    Args:
        url: of the item.
        corpus: path or URL of its corpus.
        hosts: from `parse_hosts`.
    """
    if local := _LOCAL.match(url):
        return url[local.end() :].startswith("/")
    # "::" chains several URLs, of which each names a host.
    return "::" not in url and host_of(url) in (host_of(corpus), *hosts)
