"""One retraining of a model at a time, on whatever hosts: claims in MLflow's store.

Each process that wants a model writes a claim, "asking", under a key of its own among the tags of
the experiment of retrainings; then it reads all claims, and holds the model once a read shows no
other claim of a live process. Why no two can hold it: MLflow commits a write before it answers, and
a read shows all writes that were answered before it. Let A and B both hold. A's last read came
after A's write and did not show B's claim, so it came before B's write; likewise B's last read came
before A's write. Each process reads after it writes, so A's write < A's read < B's write < B's read
< A's write: a contradiction.

That one of several gets it: of two that ask, the one whose id comes first stays, the other
withdraws.

A holder renews its claim. Whether it is alive is told by that, measured by the clock of whoever
looks: hosts need not agree on the time. A holder that was cut off for longer than the lease, and
then finds itself replaced, is told so by `check` before it publishes anything: whoever came later
has the greater number.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import JobError, UserError
from training.tracking.store import (
    absolute,
    answering,
    impatient,
    open_client,
    open_experiment,
    shown,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)

# A claim that was not renewed for so long is of a process that is dead or cut off.
LEASE_S = 60.0
BEAT_S = 5.0
_LOOK_S = 0.5

_KEY = "retrain.claim."


@dataclass(frozen=True)
class _Claim:
    """Of one process on one model.

    Attributes:
        owner: an id.
        model: the model's name.
        holds: whether the model is held, rather than asked for.
        number: greater than that of every claim that was there before.
        beat: how often it was renewed.
        host, pid, started: of the process; when it started, in the kernel's ticks since the boot.
        machine: the boot and the process namespace in which `pid` means something.
    """

    owner: str
    model: str
    holds: bool
    number: int
    beat: int
    host: str
    pid: int
    started: int | None
    machine: str

    def is_of_here(self) -> bool:
        """Whether the process, if it lives, is one that this process can see."""
        return self.machine == _machine()

    def is_running(self) -> bool:
        """Whether a process of this machine is alive."""
        return _started(self.pid) == self.started


@contextmanager
def only_one(
    model: str, experiment: str, tracking_uri: str, on_wait: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Hold a model for the length of a block.

    Args:
        model: its name.
        experiment: whose tags the claims are; made where there is none.
        tracking_uri: of the store that all hosts share.
        on_wait: told whom is waited for.

    Yields:
        A function that makes sure the model is still held; to be called before anything is
        published. It raises JobError if another process took it.

    Raises:
        UserError: another process holds it, or the store does not answer.
    """
    uri = absolute(tracking_uri)
    with answering(uri), impatient():
        client = open_client(uri)
        board = _Board(client, open_experiment(client, uri, experiment), uri, model)
    claim = _take(board, _new_claim(model), on_wait)
    stop = threading.Event()

    def keep() -> None:
        mine = claim
        while not stop.wait(BEAT_S):
            mine = replace(mine, beat=mine.beat + 1)
            try:
                if claim.owner not in board.read():
                    return
                board.write(mine)
            except UserError as error:
                # MLflow is away: a training goes on meanwhile, and `check` looks before it matters.
                _log.debug("%s", error)

    def check() -> None:
        claims = board.read()
        later = [c for c in claims.values() if c.holds and c.number > claim.number]
        if claim.owner not in claims or later:
            raise JobError(f"{model}: another process took its retraining over meanwhile")

    keeper = threading.Thread(target=keep, name="arbiter", daemon=True)
    keeper.start()
    try:
        yield check
    finally:
        stop.set()
        keeper.join()
        board.remove(claim)


def _take(board: _Board, claim: _Claim, on_wait: Callable[[str], None]) -> _Claim:
    """Ask for a model until it is held, or another holds it."""
    number = 1 + max((other.number for other in board.read().values()), default=0)
    claim = replace(claim, number=number)
    # What was seen of each other claim, and since when.
    seen: dict[str, tuple[_Claim, float]] = {}
    dead: set[str] = set()
    try:
        while True:
            board.write(claim)
            others = [c for c in board.read().values() if c.owner not in {claim.owner, *dead}]
            for other in others:
                first, since = seen.setdefault(other.owner, (other, time.monotonic()))
                if _is_gone(other, first, since):
                    dead.add(other.owner)
                    board.remove(other)
                elif _is_before(other, claim) and _is_alive(other, first):
                    raise _busy(other)
                elif other is first:
                    on_wait(f"waiting whether {_who(other)} is alive, which has {board.model}")
            if not others:
                claim = replace(claim, holds=True)
                board.write(claim)
                return claim
            time.sleep(_LOOK_S)
            claim = replace(claim, beat=claim.beat + 1)
    except BaseException:
        board.remove(claim)
        raise


def _is_before(other: _Claim, claim: _Claim) -> bool:
    return other.holds or other.owner < claim.owner


def _is_gone(now: _Claim, first: _Claim, since: float) -> bool:
    if now.is_of_here():
        return not now.is_running()
    return now == first and time.monotonic() - since > LEASE_S


def _is_alive(now: _Claim, first: _Claim) -> bool:
    return now.is_of_here() or now != first


class _Board:
    """The claims on a model."""

    def __init__(self, client: MlflowClient, experiment_id: str, uri: str, model: str) -> None:
        self._client, self._experiment_id, self._uri = client, experiment_id, uri
        self.model = model

    def read(self) -> dict[str, _Claim]:
        """All claims, by owner."""
        with answering(self._uri), impatient():
            tags = self._client.get_experiment(self._experiment_id).tags
        claims = [_Claim(**json.loads(v)) for k, v in tags.items() if k.startswith(_KEY)]
        return {claim.owner: claim for claim in claims if claim.model == self.model}

    def write(self, claim: _Claim) -> None:
        with answering(self._uri), impatient():
            text = json.dumps(asdict(claim))
            self._client.set_experiment_tag(self._experiment_id, _KEY + claim.owner, text)

    def remove(self, claim: _Claim) -> None:
        """Remove a claim; one that stays, because MLflow is away, is found dead by the next."""
        from mlflow.exceptions import MlflowException

        try:
            with impatient():
                self._client.delete_experiment_tag(self._experiment_id, _KEY + claim.owner)
        except MlflowException as error:
            _log.debug("%s: a claim stays: %s", shown(self._uri), error)


def _new_claim(model: str) -> _Claim:
    return _Claim(
        owner=uuid.uuid4().hex,
        model=model,
        holds=False,
        number=0,
        beat=0,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        machine=_machine(),
    )


def _machine() -> str:
    """What two processes share that have the same kernel, and the same process ids."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> int | None:
    """When a process started; None where it is dead. Unlike a time it never changes."""
    try:
        state, *values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else int(values[18])


def _busy(claim: _Claim) -> UserError:
    return UserError(f"{claim.model}: {_who(claim)} is retraining it; one at a time")


def _who(claim: _Claim) -> str:
    return f"process {claim.pid} on {claim.host}"
