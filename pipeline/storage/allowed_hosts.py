"""Check of the hosts that the URLs of items may name.

A corpus from an untrusted source may name any host, but it is read with the user's credentials from
inside the user's network. Therefore only URLs on the host of the corpus itself and on the allowed
hosts are opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.paths import LOCAL_URL

# Environment variable with the list of allowed hosts, SCHEME://HOST separated by commas, for
# programs that start other processes.
VARIABLE = "INTERTITLE_ALLOW_HOST"
# What parsers of http URLs read differently, so that they disagree on the host: a backslash or a
# control character anywhere, and a blank or a user name in front of the path.
_AMBIGUOUS = re.compile(r"https?://(?:.*[\\\x00-\x1f\x7f]|[^/?#]*[\s@])", re.IGNORECASE | re.DOTALL)
_ENTRY = re.compile(r"[a-z][a-z0-9+.-]*://[^/@\s,?#]+", re.IGNORECASE)


def allowed_hosts() -> tuple[str, ...]:
    """Return the hosts that this process' environment allows.

    Raises:
        UserError: an entry is not SCHEME://HOST.
    """
    listed = tuple(name.strip() for name in os.environ.get(VARIABLE, "").split(","))
    return parse_hosts(name for name in listed if name)


def parse_hosts(names: Iterable[str]) -> tuple[str, ...]:
    """Parse the names of hosts or buckets into the form in which they are compared.

    Raises:
        UserError: a name is not SCHEME://HOST.
    """
    hosts = []
    for name in names:
        if not _ENTRY.fullmatch(name.rstrip("/")):
            raise UserError(f"--allow-host: {name!r}, allowed: SCHEME://HOST, such as s3://bucket")
        hosts.append(host_of(name))
    return tuple(hosts)


def host_of(url: str) -> str:
    """Return the scheme and host, or bucket, of a URL, without user name and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


def is_allowed(url: str, corpus: str, hosts: Sequence[str]) -> bool:
    """Return whether an item's URL names a local file, the host of its corpus, or an allowed host.

    URLs of http and https whose host depends on who reads them are not allowed.

    Args:
        url: URL of the item.
        corpus: path or URL of the item's corpus.
        hosts: allowed hosts, as `parse_hosts` returns them.
    """
    if local := LOCAL_URL.match(url):
        return url[local.end() :].startswith("/")
    # "::" chains several URLs, each of which names a host.
    if "::" in url or _AMBIGUOUS.match(url):
        return False
    try:
        return host_of(url) in (host_of(corpus), *hosts)
    except ValueError:
        return False
