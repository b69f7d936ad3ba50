"""Files in the user's cache folder, which is shared by processes and may be damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.paths import as_path, atomic_write, cache_folder

_DIGEST_BYTES = hashlib.sha256().digest_size


def write_cached(file: Path, data: bytes) -> None:
    """Write a file atomically, even if several processes write it at the same time.

    Raises:
        UserError: the file can't be written.
    """
    try:
        atomic_write(as_path(file), lambda writer: writer.write(data))
    except OSError as error:
        raise UserError(
            f"{file.parent}: {error.strerror}; XDG_CACHE_HOME names another folder for it"
        ) from error


def cached_build(name: str, make: Callable[[], bytes]) -> bytes:
    """Return the cached result of `make`, which is called if the file is missing or damaged.

    The file begins with the SHA-256 of the rest.

    Args:
        name: name of the file in the user's cache folder.
        make: function that returns the data to cache.

    Raises:
        UserError: the file can't be written.
    """
    file = cache_folder() / name
    try:
        content = file.read_bytes()
    except OSError:
        content = b""
    data = content[_DIGEST_BYTES:]
    if data and hashlib.sha256(data).digest() == content[:_DIGEST_BYTES]:
        return data
    data = make()
    write_cached(file, hashlib.sha256(data).digest() + data)
    return data
