"""A SQLite file as MLflow's database: its URI, and its creation by one process at a time."""

from __future__ import annotations

import atexit
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

ARTIFACTS = "mlartifacts"  # the folder beside the file
_SCHEME = "sqlite:///"
_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"


def sqlite_uri(file: Path) -> str:
    """The URI of a database's file, in whatever folder it is."""
    return _SCHEME + _quoted(file.absolute())


def absolute(uri: str) -> str:
    """A tracking URI that means the same from any folder."""
    return re.sub(rf"^{_SCHEME}(?!/)", lambda _: f"{_SCHEME}{_quoted(Path.cwd())}/", uri)


def database(uri: str) -> Path | None:
    """The file of a SQLite store."""
    path = absolute(uri).partition("?")[0].removeprefix(_SCHEME)
    return Path(unquote(path)) if uri.startswith(_SCHEME) else None


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Hold the folder of a SQLite store while it is opened, which may create its tables.

    MLflow looks whether they are there, and creates them in many steps: of two processes that begin
    at the same moment both would, and both fail. Another kind of store is not held.
    """
    file = database(uri)
    if file is None:
        yield
        return
    with suppress(OSError):  # MLflow tells what is wrong with the place
        file.parent.mkdir(parents=True, exist_ok=True)
    _remove_stray_folders(uri, file)
    try:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        # MLflow writes the current folder into the statement that makes its first experiment, where
        # a name with a colon is a parameter.
        os.environ[_ROOT] = (file.parent / ARTIFACTS).as_uri()
        yield
    finally:
        os.environ.pop(_ROOT, None)
        os.close(folder)


def _quoted(path: Path) -> str:
    """A path as part of a URI: SQLAlchemy takes what follows ? for options, and decodes %."""
    return re.sub("[%?#]", lambda mark: quote(mark[0]), str(path))


def _remove_stray_folders(uri: str, file: Path) -> None:
    """When this process ends, remove the empty folder that MLflow makes of a URI with a %."""
    stray = Path(uri.partition("?")[0].removeprefix(_SCHEME)).parent
    made = [folder for folder in (stray, *stray.parents) if not folder.exists()]
    if stray != file.parent and made:

        def remove() -> None:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()

        atexit.register(remove)
