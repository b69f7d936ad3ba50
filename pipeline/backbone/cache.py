"""Files kept in the user's cache folder, which several processes use and anything may damage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import UserError
from pipeline.location import cache_folder, location, write_whole

_DIGEST_BYTES = hashlib.sha256().digest_size


def write_cached(file: Path, data: bytes) -> None:
    """Write a file whole, whoever writes it at the same time.

    Raises:
        UserError: it can't be written.
    """
    try:
        write_whole(location(file), lambda writer: writer.write(data))
    except OSError as error:
        raise UserError(
            f"{file.parent}: {error.strerror}; XDG_CACHE_HOME names another folder for it"
        ) from error


def made_once(name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives, kept under a name; made again where the kept file is damaged.

    The file begins with the hash of the rest.
    """
    file = cache_folder() / name
    try:
        kept = file.read_bytes()
    except OSError:
        kept = b""
    data = kept[_DIGEST_BYTES:]
    if data and hashlib.sha256(data).digest() == kept[:_DIGEST_BYTES]:
        return data
    data = make()
    write_cached(file, hashlib.sha256(data).digest() + data)
    return data
