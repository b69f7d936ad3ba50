"""Journal of the writes of a run: stored on disk, and sent to MLflow in order, each entry once.

A server that is down must not stop a training of hours. Therefore every write is first stored in a
journal of plain files, with one folder per entry. A thread sends the entries in order and removes
those that were sent. While the server is unreachable, it retries with growing pauses. Entries that
are left when the process ends or is killed are sent by a later process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from intertitle.pipeline.storage.format_version import VERSION_FIELD, FormatVersion
from intertitle.pipeline.storage.paths import atomic_folder
from intertitle.training.tracking.outbox.delivery import Entry, deliver, is_away
from intertitle.training.tracking.store.client import (
    RunRef,
    default_tracking_uri,
    open_client,
    resolve_run,
)
from intertitle.training.tracking.store.mlflow_errors import (
    mlflow_errors,
    one_line,
    redact,
    short_timeouts,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)

# File that names the run of a journal. The process that writes the journal holds a lock on it.
HEADER = "journal.json"
JOURNAL_FORMAT = FormatVersion("journal", 1)
# Maximum time that a write waits for its delivery, so that a refusal is raised where it was caused.
MAX_PAUSE_S = 5.0
# Pause between attempts, doubled after each one.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
# Time to wait for the server when the journal is closed.
LAST_TRIES_S = 5.0

Fill = Callable[[Path], object]


class Outbox:
    """Journal of one process that writes to a run.

    Args:
        client: MLflow client of the run's store.
        run: run to write to.
        home: folder for the journals of this run; several processes may write at the same time.
    """

    def __init__(self, client: MlflowClient, run: RunRef, home: Path) -> None:
        self._client, self._run, self._home = client, run, home
        home.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=home, prefix=f"{datetime.now():%Y%m%dT%H%M%S}-"))
        self._header = _open_header(self._folder, run)
        self._changed = threading.Condition()
        self._num_put = self._num_sent = 0
        self._is_away = False
        self._refusal: Exception | None = None
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._send_all, name="outbox", daemon=True)
        self._thread.start()

    def put(self, entry: Entry, fill: Fill | None = None, *, wait: bool = True) -> None:
        """Write an entry; return when it is sent, or stored if the server is unreachable or slow.

        Args:
            entry: entry to write.
            fill: function that writes the entry's files into the folder that it is called with.
            wait: whether to wait for the delivery and raise refusals; False if no caller could
                handle them.

        Raises:
            Exception: MLflow refuses this entry or an earlier one.
        """
        with self._changed:
            if wait:
                self._tell_refusal()
            number = self._num_put
            _write_entry(self._folder / f"{number:06d}", entry, fill)
            self._num_put += 1
            self._changed.notify_all()
            if wait:
                self._changed.wait_for(
                    lambda: self._num_sent > number or self._is_away or self._refusal, MAX_PAUSE_S
                )
                self._tell_refusal()

    def close(self) -> None:
        """Send the remaining entries.

        If the server stays unreachable, log how many are stored and the command that sends them.

        Raises:
            Exception: MLflow refuses an entry.
        """
        if self._ends_at is not None:
            return
        with self._changed:
            self._ends_at = time.monotonic() + LAST_TRIES_S
            self._changed.notify_all()
        self._thread.join()
        if remaining := self._num_put - self._num_sent:
            uri = self._run.tracking_uri
            command = f"intertitle sync {shlex.quote(str(self._home))}"
            if uri != default_tracking_uri():
                command += f" --tracking-uri {shlex.quote(redact(uri))}"
            _log.warning(
                "MLflow at %s is still away, %d writes of run %s are kept; to send them: %s",
                *(redact(uri), remaining, self._run.name, command),
            )
            self._header.close()
        else:
            shutil.rmtree(self._folder)
            self._header.close()
            with contextlib.suppress(OSError):  # another process has a journal in it
                self._home.rmdir()
        self._tell_refusal()

    def _tell_refusal(self) -> None:
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _send_all(self) -> None:
        pause = FIRST_PAUSE_S
        with short_timeouts():
            while (number := self._next()) is not None:
                path = self._folder / f"{number:06d}"
                refusal = None
                try:
                    _send_entry(self._client, self._run.run_id, path)
                except Exception as error:
                    if is_away(error):
                        if not self._wait(error, pause):
                            return
                        pause = min(2 * pause, LONGEST_PAUSE_S)
                        continue
                    refusal = error
                    shutil.rmtree(path)
                pause = FIRST_PAUSE_S
                self._note_sent(refusal)

    def _next(self) -> int | None:
        """Wait for the next entry to send and return its number; None if there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._num_sent < self._num_put or self._ends_at)
            return self._num_sent if self._num_sent < self._num_put else None

    def _note_sent(self, refusal: Exception | None) -> None:
        with self._changed:
            self._num_sent += 1
            self._refusal = self._refusal or refusal
            if self._is_away:
                self._is_away = False
                _log.warning("MLflow at %s is back", redact(self._run.tracking_uri))
            self._changed.notify_all()

    def _wait(self, error: Exception, pause: float) -> bool:
        """Pause before the next attempt; return False if there must not be one."""
        with self._changed:
            if not self._is_away:
                self._is_away = True
                self._changed.notify_all()
                _log.warning(
                    "MLflow at %s is away, going on; what is written is kept in %s: %s",
                    *(redact(self._run.tracking_uri), self._folder, one_line(error)),
                )
            ends_at = self._ends_at
            if ends_at is not None and time.monotonic() >= ends_at:
                return False
            pause = pause if ends_at is None else FIRST_PAUSE_S
            self._changed.wait_for(lambda: self._ends_at != ends_at, pause)
            return True


def send_journals(client: MlflowClient, run: RunRef, home: Path) -> int:
    """Send the journals of processes that have ended or were killed, oldest first.

    Args:
        client: MLflow client of the run's store.
        run: run that the journals belong to.
        home: folder that was passed to `Outbox`.

    Returns:
        Number of entries that were sent. The journal of a running process is skipped.

    Raises:
        Exception: MLflow does not answer or refuses an entry, which stays in its journal.
    """
    num_sent = 0
    for header in sorted(home.glob(f"*/{HEADER}")):
        with _held(header) as is_free:
            if not is_free:
                continue
            _read_header(header)
            for path in sorted(header.parent.glob("[0-9]*")):
                if (path / "entry.json").is_file():
                    _send_entry(client, run.run_id, path)
                    num_sent += 1
            shutil.rmtree(header.parent)
    with contextlib.suppress(OSError):
        home.rmdir()
    return num_sent


def send_kept(folder: Path, tracking_uri: str) -> dict[str, int]:
    """Send the entries that runs could not send before their processes ended.

    Args:
        folder: folder with journals in it or in a folder below it.
        tracking_uri: tracking URI of the store.

    Returns:
        Number of entries that were sent, by the name of the run; 0 for a run that a process still
        writes to.

    Raises:
        UserError: the store does not answer, refuses an entry, or does not have a run.
    """
    sent: dict[str, int] = {}
    for home, run_id in _find_journals(folder).items():
        run = resolve_run(run_id, tracking_uri)
        with mlflow_errors(run.tracking_uri), short_timeouts():
            num_sent = send_journals(open_client(run.tracking_uri), run, home)
        sent[run.name] = sent.get(run.name, 0) + num_sent
    return sent


def _find_journals(folder: Path) -> dict[Path, str]:
    """Find all folders of journals in a folder and below, each with the id of its run."""
    headers = sorted(folder.rglob(HEADER))
    return {header.parent.parent: _read_header(header)["run_id"] for header in headers}


def _read_header(header: Path) -> dict[str, str]:
    """Read the header of a journal.

    Raises:
        UserError: the journal has another version of the format.
    """
    values: dict[str, str] = json.loads(header.read_text())
    JOURNAL_FORMAT.check(header, values.get(VERSION_FIELD))
    return values


def _open_header(folder: Path, run: RunRef) -> IO[str]:
    header = (folder / HEADER).open("w")
    fcntl.flock(header, fcntl.LOCK_EX)
    version = {VERSION_FIELD: JOURNAL_FORMAT.version}
    json.dump({**version, "run_id": run.run_id, "name": run.name}, header)
    header.flush()
    return header


@contextmanager
def _held(header: Path) -> Iterator[bool]:
    """Lock a journal for a block; yield False if the process that writes it is still running."""
    with header.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _write_entry(path: Path, entry: Entry, fill: Fill | None) -> None:
    with atomic_folder(path) as folder:
        if fill is not None:
            (folder / "files").mkdir()
            fill(folder / "files")
        (folder / "entry.json").write_text(json.dumps(asdict(entry)), "utf-8")


def _send_entry(client: MlflowClient, run_id: str, path: Path) -> None:
    """Send an entry and remove it from the journal."""
    entry = Entry(**json.loads((path / "entry.json").read_text("utf-8")))
    deliver(client, run_id, entry, path / "files")
    # Removed first, so that an interrupted removal leaves no entry that could be sent again.
    (path / "entry.json").unlink()
    shutil.rmtree(path)
