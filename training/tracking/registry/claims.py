"""Claims of processes on the retraining of a model, in the tags of an experiment."""

from __future__ import annotations

import json
import logging
import os
import socket
import uuid
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from intertitle.training.tracking.store.mlflow_errors import mlflow_errors, redact, short_timeouts

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)

_KEY = "retrain.claim."
# Ids of the claims that blocks of this process are using. Another claim of this process is one that
# could not be removed.
claims_in_use: set[str] = set()


@dataclass(frozen=True)
class Claim:
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
        if self.pid == os.getpid() and self.owner not in claims_in_use:
            return False
        return _started(self.pid) == self.started


class ClaimBoard:
    """Claims on a model in the tags of an experiment."""

    def __init__(self, client: MlflowClient, experiment_id: str, uri: str, model: str) -> None:
        self._client, self._experiment_id, self._uri = client, experiment_id, uri
        self.model = model

    def read(self, quick: bool = True) -> dict[str, Claim]:
        """Return all claims on the model by owner; `quick` sets short timeouts."""
        with mlflow_errors(self._uri), short_timeouts() if quick else nullcontext():
            tags = self._client.get_experiment(self._experiment_id).tags
        claims = [Claim(**json.loads(v)) for k, v in tags.items() if k.startswith(_KEY)]
        return {claim.owner: claim for claim in claims if claim.model == self.model}

    def write(self, claim: Claim, quick: bool = True) -> None:
        """Write a claim; `quick` sets short timeouts."""
        with mlflow_errors(self._uri), short_timeouts() if quick else nullcontext():
            text = json.dumps(asdict(claim))
            self._client.set_experiment_tag(self._experiment_id, _KEY + claim.owner, text)

    def remove(self, claim: Claim) -> None:
        """Remove a claim; if MLflow is unreachable, the next process detects that it is dead."""
        from mlflow.exceptions import MlflowException

        try:
            with short_timeouts():
                self._client.delete_experiment_tag(self._experiment_id, _KEY + claim.owner)
        except MlflowException as error:
            _log.debug("%s: a claim stays: %s", redact(self._uri), error)


def new_claim(model: str) -> Claim:
    """Return a claim of this process that requests a model."""
    return Claim(
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
