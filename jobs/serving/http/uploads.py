"""Folder of the files that browsers upload to the page."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

# Seconds between two sweeps, and the age at which a file is deleted.
SWEEP_S, MAX_AGE_S = 600.0, 3600.0
# Size of the folder from which on it takes no more uploads.
MAX_BYTES = 4 * 2**30
_PREFIX = "intertitle-page-"


class Uploads:
    """A new folder, which other users cannot read and where Gradio keeps uploads.

    It has to be made before Gradio is imported, which reads the environment then. The folders of
    servers that were killed are deleted.

    Attributes:
        folder: the folder.
    """

    def __init__(self) -> None:
        _delete_abandoned(Path(tempfile.gettempdir()))
        while True:
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
            # Held until this process ends.
            self._lock = _try_lock(self.folder)
            # Another server that starts may have taken the new folder for an abandoned one.
            if self._lock is not None:
                break
        os.environ["GRADIO_TEMP_DIR"] = str(self.folder)
        self._lasting: frozenset[Path] = frozenset()

    def has(self, path: str) -> bool:
        """Return whether a path is inside the folder, once links and `..` are resolved."""
        try:
            resolved = Path(path).resolve()
        except (OSError, ValueError, RuntimeError):
            return False
        return self.folder in resolved.parents

    def is_full(self) -> bool:
        """Return whether the folder takes no more uploads."""
        num_bytes = 0
        for file in self._files():
            with suppress(OSError):
                num_bytes += file.stat().st_size
        return num_bytes >= MAX_BYTES

    def keep_current(self) -> None:
        """Let the files that are in the folder now stay: those that the page offers."""
        self._lasting = frozenset(self._files())

    def sweep(self, max_age_s: float = MAX_AGE_S) -> None:
        """Delete the files that have not been written for a time, and empty folders."""
        oldest = time.time() - max_age_s
        for file in self._files():
            with suppress(OSError):
                if file not in self._lasting and file.stat().st_mtime < oldest:
                    file.unlink()
        folders = [path for path in self.folder.rglob("*") if path.is_dir()]
        for folder in reversed(folders):
            # A folder that an upload has just made is left alone.
            with suppress(OSError):
                if folder.stat().st_mtime < oldest:
                    folder.rmdir()

    @asynccontextmanager
    async def swept(self) -> AsyncIterator[None]:
        """Sweep the folder now and then while a block runs, and delete it at the end."""
        sweeping = asyncio.create_task(self._sweep_often())
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await asyncio.to_thread(self.sweep)

    def _files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if not path.is_dir()]


def _try_lock(folder: Path) -> int | None:
    """Lock a folder; return its descriptor, or None if another process has locked it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _delete_abandoned(parent: Path) -> None:
    """Delete the folders of uploads that no process has locked."""
    for folder in parent.glob(f"{_PREFIX}*"):
        if (descriptor := _try_lock(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
