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

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from intertitle.pipeline.errors import JobError, UserError
from intertitle.training.tracking.registry.claims import (
    Claim,
    ClaimBoard,
    claims_in_use,
    new_claim,
)
from intertitle.training.tracking.store.client import open_client, open_experiment
from intertitle.training.tracking.store.mlflow_errors import mlflow_errors, short_timeouts
from intertitle.training.tracking.store.sqlite import absolute

_log = logging.getLogger(__name__)

# A claim that was not renewed for this time belongs to a process that is dead or disconnected.
LEASE_S = 60.0
BEAT_S = 5.0
_LOOK_S = 0.5
# Time to wait for the renewing thread when a block ends.
_END_S = 15.0


@dataclass(frozen=True)
class _Observation:
    """Observation of another claim by this process.

    Attributes:
        claim: claim at its last change.
        since: time of the last change, by this process' clock.
        moved: whether the claim has changed since it was first seen.
    """

    claim: Claim
    since: float
    moved: bool = False

    def look(self, claim: Claim, now: float) -> _Observation:
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
        board = ClaimBoard(client, open_experiment(client, uri, experiment), uri, model)
    request = new_claim(model)
    claims_in_use.add(request.owner)
    try:
        claim = _take(board, request, on_wait)
        with _renewed(board, claim) as check:
            yield check
    finally:
        claims_in_use.discard(request.owner)


@contextmanager
def _renewed(board: ClaimBoard, claim: Claim) -> Iterator[Callable[[], None]]:
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


def _take(board: ClaimBoard, claim: Claim, on_wait: Callable[[str], None]) -> Claim:
    """Request a model until it is held; raise `UserError` if another process holds it."""
    number = 1 + max((rival.number for rival in board.read().values()), default=0)
    claim = replace(claim, number=number)
    observations: dict[str, _Observation] = {}
    dead: set[str] = set()
    with ExitStack() as undo:
        undo.callback(lambda: board.remove(claim))
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
                undo.pop_all()
                return claim
            time.sleep(_LOOK_S)
            claim = replace(claim, beat=claim.beat + 1)


def _is_before(rival: Claim, claim: Claim) -> bool:
    return rival.holds or rival.owner < claim.owner


def _busy(claim: Claim) -> UserError:
    return UserError(f"{claim.model}: {_who(claim)} is retraining it; one at a time")


def _who(claim: Claim) -> str:
    return f"process {claim.pid} on {claim.host}"
