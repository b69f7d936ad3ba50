"""Folder of the files that browsers upload to the page."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

# Seconds between two sweeps, and the age at which a file is deleted.
SWEEP_S, MAX_AGE_S = 600.0, 3600.0


class Uploads:
    """A new folder, which other users cannot read and where Gradio keeps uploads.

    It has to be made before Gradio is imported, which reads the environment then.

    Attributes:
        folder: the folder.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="intertitle-page-")).resolve()
        os.environ["GRADIO_TEMP_DIR"] = str(self.folder)
        self._lasting: frozenset[Path] = frozenset()

    def has(self, path: str) -> bool:
        """Return whether a path is inside the folder, once links and `..` are resolved."""
        try:
            resolved = Path(path).resolve()
        except (OSError, ValueError, RuntimeError):
            return False
        return self.folder in resolved.parents

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
