"""URIs of files that are inside a larger file, such as a tar, without compression.

    bytes://OFFSET+SIZE/URI

names SIZE bytes from OFFSET of the file that URI names: a path, absolute or relative to the folder
of the corpus, or a URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# The numbers fit the integers of a snapshot.
_URI = re.compile(r"bytes://(\d{1,18})\+(\d{1,18})/(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Member:
    """A range of a file's bytes.

    Attributes:
        uri: path or URL of the file that has the bytes.
        offset: position of the first byte.
        size_bytes: number of bytes.
    """

    uri: str
    offset: int
    size_bytes: int

    def to_uri(self) -> str:
        """Return the URI of the range."""
        return f"bytes://{self.offset}+{self.size_bytes}/{self.uri}"


def parse_member(uri: str) -> Member | None:
    """Return the range that a URI names, or None if it names a file of its own."""
    match = _URI.fullmatch(uri)
    return Member(match[3], int(match[1]), int(match[2])) if match else None
