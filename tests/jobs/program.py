"""The installed program, for somebody whose home, clusters and environment are their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("intertitle")
# A cluster that starts beside much other work may be tried three times.
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Person:
    """Who runs the program.

    Attributes:
        home: their home, and what they have for temporary files.
        folder: that they are in.
        environment: what theirs has beside what everybody's has; an empty value takes one away.
    """

    home: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: object, **others: str) -> subprocess.Popen[str]:
        """Begin a command."""
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
        theirs = {"HOME": str(self.home), "TMPDIR": str(self.home), **self.environment, **others}
        return subprocess.Popen(
            [PROGRAM, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**ours, **theirs},
        )

    def run(self, *arguments: object, **others: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*arguments, **others)
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            if process.poll() is None:
                # What it started, it stops.
                process.terminate()
                process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def token(self) -> str:
        """What Ray asks them for."""
        return (self.home / ".ray" / "auth_token").read_text()


@contextmanager
def somebody(folder: Path) -> Iterator[Person]:
    """Somebody in a folder, with an empty home."""
    # Not under pytest's own folder: the names of Ray's sockets have to stay below 108 bytes.
    with tempfile.TemporaryDirectory(prefix="it-", ignore_cleanup_errors=True) as home:
        yield Person(Path(home), folder)
