"""Split a stream of bytes into lines of text, with a limit on the length of a line."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import count
from typing import BinaryIO

from intertitle.pipeline.errors import UserError


def text_lines(
    stream: BinaryIO, where: str, encoding: str = "utf-8", max_bytes: int = -1, advice: str = ""
) -> Iterator[tuple[int, str]]:
    """Iterate over the lines of a stream: number, from 1, and text without the line ending.

    A byte-order mark is dropped. Only LF and CRLF end a line.

    Args:
        stream: stream of an encoding in which only LF has the byte 10.
        where: name of the file, for messages.
        encoding: encoding of the text.
        max_bytes: maximum number of bytes of a line; -1 for no limit.
        advice: end of the message about a line that is not of this encoding.

    Raises:
        UserError: a line is too long, or is not of this encoding.
    """
    for number in count(1):
        raw = stream.readline(max_bytes + 1 if max_bytes >= 0 else -1)
        if not raw:
            return
        if 0 <= max_bytes < len(raw):
            raise UserError(f"{where}: line {number}: over {max_bytes:,} bytes, allowed: fewer")
        if number == 1 and raw.startswith(BOM_UTF8):
            raw = raw.removeprefix(BOM_UTF8)
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as error:
            name = encoding.upper()
            message = f"{where}: line {number}: not {name} at byte {error.start}{advice}"
            raise UserError(message) from error
        yield number, text.removesuffix("\n").removesuffix("\r")
