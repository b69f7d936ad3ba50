"""Mutual exclusion of retrainings of a model across hosts, with claims in MLflow's store.

Each process that requests a model writes a claim under its own key in the tags of the retraining
experiment. It then reads all claims, and holds the model once a read shows no other claim of a live
process. Two processes can't hold a model at the same time: MLflow commits a write before it
answers, and a read shows all writes that were answered before it. Assume that A and B both hold the
model. A's last read came after A's write and did not show B's claim, so it came before B's write;
in the same way, B's last read came before A's write. Each process reads after it writes, so A's
write < A's read < B's write < B's read < A's write: a contradiction.

One of several processes always gets the model: of two that request it, the one whose id sorts first
keeps its claim and the other withdraws.

A holder renews its claim. Other processes decide by these renewals, measured with their own clock,
whether it is alive: the clocks of hosts need not agree. A holder that was disconnected for longer
than the lease and was replaced learns this from `check` before it publishes anything, because a
later claim has a greater number.
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
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from intertitle.pipeline.errors import JobError, UserError
from intertitle.training.tracking.store.client import (
    absolute,
    mlflow_errors,
    open_client,
    open_experiment,
    redact,
    short_timeouts,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)

# A claim that was not renewed for this time belongs to a process that is dead or disconnected.
LEASE_S = 60.0
BEAT_S = 5.0
_LOOK_S = 0.5
# Time to wait for the renewing thread when a block ends.
_END_S = 15.0

_KEY = "retrain.claim."
# Ids of the claims that blocks of this process are using. Another claim of this process is one that
# could not be removed.
_in_use: set[str] = set()


@dataclass(frozen=True)
class _Claim:
    """Claim of one process on one model.

    Attributes:
        owner: random id of the claim.
        model: name of the model.
        holds: whether the model is held, rather than requested.
        number: number that is greater than those of all earlier claims.
        beat: number of renewals.
        host, pid, started: host name, process id and start time of the process, the latter in
            kernel ticks since boot.
        machine: boot id and process namespace in which `pid` is valid.
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
        """Return whether the process runs in the same process namespace as this process."""
        return self.machine == _machine()

    def is_running(self) -> bool:
        """Return whether a process of this machine is alive and still uses its claim."""
        if self.pid == os.getpid() and self.owner not in _in_use:
            return False
        return _started(self.pid) == self.started


@dataclass(frozen=True)
class _Observation:
    """Observation of another claim by this process.

    Attributes:
        claim: claim at its last change.
        since: time of the last change, by this process' clock.
        moved: whether the claim has changed since it was first seen.
    """

    claim: _Claim
    since: float
    moved: bool = False

    def look(self, claim: _Claim, now: float) -> _Observation:
        """Return the observation after the claim was read again."""
        return self if claim == self.claim else _Observation(claim, now, moved=True)

    def is_gone(self, now: float) -> bool:
        if self.claim.is_of_here() and not self.claim.is_running():
            return True
        return now - self.since > LEASE_S

    def is_alive(self) -> bool:
        """Return whether the process, which is not gone, has shown that it is alive."""
        return self.claim.is_of_here() or self.moved


@contextmanager
def only_one(
    model: str, experiment: str, tracking_uri: str, on_wait: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Hold a model for the duration of a block.

    Args:
        model: name of the model.
        experiment: name of the experiment whose tags store the claims; created if it does not
            exist.
        tracking_uri: tracking URI of the store that all hosts share.
        on_wait: callback for messages that name the process that is waited for.

    Yields:
        A function that checks that the model is still held, to be called before anything is
        published. It raises JobError if another process took over.

    Raises:
        UserError: another process holds the model, or the store does not answer.
    """
    uri = absolute(tracking_uri)
    with mlflow_errors(uri), short_timeouts():
        client = open_client(uri)
        board = _Board(client, open_experiment(client, uri, experiment), uri, model)
    new_claim = _new_claim(model)
    _in_use.add(new_claim.owner)
    try:
        claim = _take(board, new_claim, on_wait)
        with _renewed(board, claim) as check:
            yield check
    finally:
        _in_use.discard(new_claim.owner)


@contextmanager
def _renewed(board: _Board, claim: _Claim) -> Iterator[Callable[[], None]]:
    """Renew a claim during a block, and then remove it; yield the function that checks it."""
    stop = threading.Event()

    def renew_claim() -> None:
        renewed = claim
        while not stop.wait(BEAT_S):
            renewed = replace(renewed, beat=renewed.beat + 1)
            try:
                # Without short timeouts: they would apply to the uploads of other threads, too.
                if claim.owner not in board.read(quick=False):
                    return
                board.write(renewed, quick=False)
                if stop.is_set():
                    # The block may have removed the claim before it was written.
                    board.remove(claim)
            except UserError as error:
                # MLflow is unreachable: training continues, and `check` runs before publishing.
                _log.debug("%s", error)

    def check() -> None:
        claims = board.read()
        newer_claims = [c for c in claims.values() if c.holds and c.number > claim.number]
        if claim.owner not in claims or newer_claims:
            raise JobError(f"{board.model}: another process took its retraining over meanwhile")

    keeper = threading.Thread(target=renew_claim, name="arbiter", daemon=True)
    keeper.start()
    try:
        yield check
    finally:
        stop.set()
        # A request to an unreachable server may take minutes.
        keeper.join(_END_S)
        board.remove(claim)


def _take(board: _Board, claim: _Claim, on_wait: Callable[[str], None]) -> _Claim:
    """Request a model until it is held; raise `UserError` if another process holds it."""
    number = 1 + max((rival.number for rival in board.read().values()), default=0)
    claim = replace(claim, number=number)
    observations: dict[str, _Observation] = {}
    dead: set[str] = set()
    try:
        while True:
            board.write(claim)
            # Before the read, so that a pause of this process does not make others seem dead.
            now = time.monotonic()
            rivals = [c for c in board.read().values() if c.owner not in {claim.owner, *dead}]
            for rival in rivals:
                is_new = rival.owner not in observations
                observed = observations.get(rival.owner, _Observation(rival, now)).look(rival, now)
                observations[rival.owner] = observed
                if observed.is_gone(now):
                    dead.add(rival.owner)
                    board.remove(rival)
                    # If it continues after all, its number shows that it was replaced.
                    claim = replace(claim, number=max(claim.number, rival.number + 1))
                elif _is_before(rival, claim) and observed.is_alive():
                    raise _busy(rival)
                elif is_new and not observed.is_alive():
                    on_wait(f"waiting whether {_who(rival)} is alive, which has {board.model}")
            if not rivals:
                claim = replace(claim, holds=True)
                board.write(claim)
                return claim
            time.sleep(_LOOK_S)
            claim = replace(claim, beat=claim.beat + 1)
    except BaseException:
        board.remove(claim)
        raise


def _is_before(rival: _Claim, claim: _Claim) -> bool:
    return rival.holds or rival.owner < claim.owner


class _Board:
    """Claims on a model in the tags of an experiment."""

    def __init__(self, client: MlflowClient, experiment_id: str, uri: str, model: str) -> None:
        self._client, self._experiment_id, self._uri = client, experiment_id, uri
        self.model = model

    def read(self, quick: bool = True) -> dict[str, _Claim]:
        """Return all claims on the model by owner; `quick` sets short timeouts."""
        with mlflow_errors(self._uri), short_timeouts() if quick else nullcontext():
            tags = self._client.get_experiment(self._experiment_id).tags
        claims = [_Claim(**json.loads(v)) for k, v in tags.items() if k.startswith(_KEY)]
        return {claim.owner: claim for claim in claims if claim.model == self.model}

    def write(self, claim: _Claim, quick: bool = True) -> None:
        with mlflow_errors(self._uri), short_timeouts() if quick else nullcontext():
            text = json.dumps(asdict(claim))
            self._client.set_experiment_tag(self._experiment_id, _KEY + claim.owner, text)

    def remove(self, claim: _Claim) -> None:
        """Remove a claim; if MLflow is unreachable, the next process detects that it is dead."""
        from mlflow.exceptions import MlflowException

        try:
            with short_timeouts():
                self._client.delete_experiment_tag(self._experiment_id, _KEY + claim.owner)
        except MlflowException as error:
            _log.debug("%s: a claim stays: %s", redact(self._uri), error)


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
    """Return the boot id and process namespace, equal for processes that share process ids."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> int | None:
    """Return the start time of a process in kernel ticks since boot; None if it is dead.

    Unlike a wall-clock time, the value never changes.
    """
    try:
        state, *values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else int(values[18])


def _busy(claim: _Claim) -> UserError:
    return UserError(f"{claim.model}: {_who(claim)} is retraining it; one at a time")


def _who(claim: _Claim) -> str:
    return f"process {claim.pid} on {claim.host}"
