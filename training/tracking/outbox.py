"""What a run writes, on its way to MLflow: kept on disk, sent in order, each thing once.

A server that is down must not stop a training of hours. So all that is written goes into a journal
first: plain files, an entry a folder. A thread sends them, in order, and removes what is sent.
While the server is away it tries again with growing pauses; what is left when the process ends, or
is killed, a later one sends.
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

from training.tracking.delivery import Entry, deliver, is_away
from training.tracking.store import (
    RunRef,
    answering,
    default_tracking_uri,
    impatient,
    one_line,
    open_client,
    resolve_run,
    shown,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)

# A journal's own file: the run it is of. Its lock is held while its process lives.
HEADER = "journal.json"
# A write waits so long to be sent, so that a refusal is told where it was caused.
PATIENCE_S = 5.0
# Between tries, doubled each time.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
# At the end the server is waited for so long.
LAST_TRIES_S = 5.0

Fill = Callable[[Path], object]


class Outbox:
    """The journal of one process that writes to a run.

    Args:
        client: of the run's store.
        run: written to.
        home: a folder for the journals of this run; several processes may write at once.
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
        """Write an entry; return when it is sent, or kept and the server is away or slow.

        Args:
            entry: what to write.
            fill: told a folder to put the entry's files into.
            wait: False where nobody is there whom a refusal could be told.

        Raises:
            Exception: MLflow refuses it, or what was written before it.
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
                    lambda: self._num_sent > number or self._is_away or self._refusal, PATIENCE_S
                )
                self._tell_refusal()

    def close(self) -> None:
        """Send what is left; if the server stays away, tell where it is kept and what sends it.

        Raises:
            Exception: MLflow refuses something.
        """
        if self._ends_at is not None:
            return
        with self._changed:
            self._ends_at = time.monotonic() + LAST_TRIES_S
            self._changed.notify_all()
        self._thread.join()
        if left := self._num_put - self._num_sent:
            uri = self._run.tracking_uri
            command = f"intertitle sync {shlex.quote(str(self._home))}"
            if uri != default_tracking_uri():
                command += f" --tracking-uri {shlex.quote(shown(uri))}"
            _log.warning(
                "MLflow at %s is still away, %d writes of run %s are kept; to send them: %s",
                *(shown(uri), left, self._run.name, command),
            )
            self._header.close()
        else:
            shutil.rmtree(self._folder)
            self._header.close()
            with contextlib.suppress(OSError):  # another process has a journal there
                self._home.rmdir()
        self._tell_refusal()

    def _tell_refusal(self) -> None:
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _send_all(self) -> None:
        pause = FIRST_PAUSE_S
        with impatient():
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
        """The entry to send, once there is one; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._num_sent < self._num_put or self._ends_at)
            return self._num_sent if self._num_sent < self._num_put else None

    def _note_sent(self, refusal: Exception | None) -> None:
        with self._changed:
            self._num_sent += 1
            self._refusal = self._refusal or refusal
            if self._is_away:
                self._is_away = False
                _log.warning("MLflow at %s is back", shown(self._run.tracking_uri))
            self._changed.notify_all()

    def _wait(self, error: Exception, pause: float) -> bool:
        """Pause before another try; False if there is to be none."""
        with self._changed:
            if not self._is_away:
                self._is_away = True
                self._changed.notify_all()
                _log.warning(
                    "MLflow at %s is away, going on; what is written is kept in %s: %s",
                    *(shown(self._run.tracking_uri), self._folder, one_line(error)),
                )
            ends_at = self._ends_at
            if ends_at is not None and time.monotonic() >= ends_at:
                return False
            pause = pause if ends_at is None else FIRST_PAUSE_S
            self._changed.wait_for(lambda: self._ends_at != ends_at, pause)
            return True


def send_journals(client: MlflowClient, run: RunRef, home: Path) -> int:
    """Send what processes that have ended or were killed left behind, oldest first.

    Args:
        client: of the run's store.
        run: whose journals they are.
        home: the folder that `Outbox` was given.

    Returns:
        How many entries were sent. A journal whose process lives is left to it.

    Raises:
        Exception: MLflow does not answer or refuses an entry, which stays in its journal.
    """
    num_sent = 0
    for header in sorted(home.glob(f"*/{HEADER}")):
        with _held(header) as is_free:
            if not is_free:
                continue
            for path in sorted(header.parent.glob("[0-9]*")):
                if (path / "entry.json").is_file():
                    _send_entry(client, run.run_id, path)
                    num_sent += 1
            shutil.rmtree(header.parent)
    with contextlib.suppress(OSError):
        home.rmdir()
    return num_sent


def send_kept(folder: Path, tracking_uri: str) -> dict[str, int]:
    """Send what runs could not send before their processes ended.

    Args:
        folder: with journals in it, or below.
        tracking_uri: of the store.

    Returns:
        The number of writes sent, by the run's name; 0 for a run that a process still writes to.

    Raises:
        UserError: the store does not answer, refuses something, or lacks a run.
    """
    sent: dict[str, int] = {}
    for home, run_id in _find_journals(folder).items():
        run = resolve_run(run_id, tracking_uri)
        with answering(run.tracking_uri), impatient():
            num_sent = send_journals(open_client(run.tracking_uri), run, home)
        sent[run.name] = sent.get(run.name, 0) + num_sent
    return sent


def _find_journals(folder: Path) -> dict[Path, str]:
    """The homes of journals in a folder and all below it, each with its run's id."""
    return {
        header.parent.parent: json.loads(header.read_text())["run_id"]
        for header in sorted(folder.rglob(HEADER))
    }


def _open_header(folder: Path, run: RunRef) -> IO[str]:
    header = (folder / HEADER).open("w")
    fcntl.flock(header, fcntl.LOCK_EX)
    json.dump({"run_id": run.run_id, "name": run.name}, header)
    header.flush()
    return header


@contextmanager
def _held(header: Path) -> Iterator[bool]:
    """Hold a journal for a block, if the process that writes it has ended."""
    with header.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _write_entry(path: Path, entry: Entry, fill: Fill | None) -> None:
    """All or nothing: an entry has its name once it is complete."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.mkdir()
    if fill is not None:
        (unfinished / "files").mkdir()
        fill(unfinished / "files")
    (unfinished / "entry.json").write_text(json.dumps(asdict(entry)), "utf-8")
    unfinished.rename(path)


def _send_entry(client: MlflowClient, run_id: str, path: Path) -> None:
    """Send an entry and remove it."""
    entry = Entry(**json.loads((path / "entry.json").read_text("utf-8")))
    deliver(client, run_id, entry, path / "files")
    # First, so that a removal cut short leaves nothing that could be sent.
    (path / "entry.json").unlink()
    shutil.rmtree(path)
