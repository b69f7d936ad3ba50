"""SQLite files as MLflow databases: which one a project uses, URIs, and creation by one process."""

from __future__ import annotations

import atexit
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

DATABASE = "mlflow.db"  # name of a project's database
ARTIFACTS = "mlartifacts"  # folder next to the database file
_SCHEME = "sqlite:///"
_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"


def sqlite_uri(file: Path) -> str:
    """Return the URI of a database file."""
    return _SCHEME + _quoted(file.absolute())


def default_tracking_uri() -> str:
    """Return the environment's MLFLOW_TRACKING_URI, or else the URI of the project's database.

    That is `mlflow.db` in the current folder or in the nearest folder above it that has one, as git
    finds its folder. A database of another user in a folder above is ignored. If there is none, it
    will be created in the current folder.
    """
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return absolute(uri)
    local, *above = (folder / DATABASE for folder in (Path.cwd(), *Path.cwd().parents))
    is_above = not local.exists()
    nearest = next((file for file in above if is_above and _is_own(file)), local)
    return sqlite_uri(nearest)


def _is_own(file: Path) -> bool:
    """Return whether a file exists and belongs to the user of this process."""
    try:
        return file.stat().st_uid == os.getuid()
    except OSError:
        return False


def absolute(uri: str) -> str:
    """Return a tracking URI that does not depend on the current folder."""
    return re.sub(rf"^{_SCHEME}(?!/)", lambda _: f"{_SCHEME}{_quoted(Path.cwd())}/", uri)


def database(uri: str) -> Path | None:
    """Return the file of a SQLite store; None for another kind of store."""
    path = absolute(uri).partition("?")[0].removeprefix(_SCHEME)
    return Path(unquote(path)) if uri.startswith(_SCHEME) else None


def is_missing(uri: str) -> bool:
    """Return whether a store is a SQLite file that does not exist; MLflow would create it."""
    file = database(uri)
    return file is not None and not file.exists()


@contextmanager
def opening(uri: str) -> Iterator[None]:
    """Lock the folder of a SQLite store while it is opened, which may create its tables.

    MLflow checks whether the tables exist and creates them in many steps: if two processes did this
    at the same time, both would fail. Other kinds of stores are not locked.
    """
    file = database(uri)
    if file is None:
        yield
        return
    with suppress(OSError):  # MLflow reports what is wrong with the folder
        file.parent.mkdir(parents=True, exist_ok=True)
    _remove_stray_folders(uri, file)
    try:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # some network file systems do not support locks on folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        # MLflow writes the artifact root, by default the current folder, into the SQL statement
        # that creates its first experiment, where a name with a colon would be a parameter.
        os.environ[_ROOT] = (file.parent / ARTIFACTS).as_uri()
        yield
    finally:
        os.environ.pop(_ROOT, None)
        os.close(folder)


def _quoted(path: Path) -> str:
    """Quote a path for a URI: SQLAlchemy reads options after ? and decodes %."""
    return re.sub("[%?#]", lambda mark: quote(mark[0]), str(path))


def _remove_stray_folders(uri: str, file: Path) -> None:
    """Remove, when this process ends, the empty folder that MLflow creates for a URI with a %."""
    stray = Path(uri.partition("?")[0].removeprefix(_SCHEME)).parent
    created = [folder for folder in (stray, *stray.parents) if not folder.exists()]
    if stray != file.parent and created:

        def remove() -> None:
            for folder in created:
                with suppress(OSError):
                    folder.rmdir()

        atexit.register(remove)
