"""The slots of a schedule: each is one MLflow run, which tells what came of it and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.tracking.run import RunRef, TrackedRun
from training.tracking.store import absolute, answering, database, impatient, open_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "intertitle-retraining"
PARENT = "mlflow.parentRunId"  # MLflow's page shows a training below its slot

MODEL, SLOT, OUTCOME = "retrain.model", "retrain.slot", "retrain.outcome"
REASONS, CORPUS, CHAMPION, HOOKED = (
    "retrain.reasons",
    "retrain.corpus",
    "retrain.champion",
    "retrain.hooked",
)
# The name of what is pinned for it, and whether there was anything new in that: "yes" or "no".
PIN, NEW = "retrain.pin", "retrain.new"
# Counts a model's slots in the order in which they were begun: clocks of hosts differ.
NUMBER = "retrain.number"


@dataclass(frozen=True)
class Slot:
    """A slot that was begun.

    Attributes:
        run: of MLflow.
        tags: of that run.
    """

    run: RunRef
    tags: Mapping[str, str]

    @property
    def outcome(self) -> str | None:
        """What came of it; None where it was not finished."""
        return self.tags.get(OUTCOME)

    @property
    def number(self) -> int:
        """Greater than that of every slot that was begun before; of old ones there is none."""
        return int(self.tags.get(NUMBER, "0"))


def find_slot(model: str, slot: str, tracking_uri: str) -> Slot | None:
    """A slot of a model, if it was begun.

    Raises:
        UserError: the store does not answer.
    """
    return next(iter(_slots(model, tracking_uri, slot)), None)


def newest_corpus(model: str, tracking_uri: str) -> str | None:
    """The fingerprint of the corpus that the newest finished slot looked at.

    Raises:
        UserError: the store does not answer.
    """
    finished = (slot for slot in _slots(model, tracking_uri) if slot.outcome)
    return next((slot.tags[CORPUS] for slot in finished if CORPUS in slot.tags), None)


def finished_slots(model: str, tracking_uri: str) -> list[str]:
    """The names of a model's finished slots, that which was begun last first.

    Raises:
        UserError: the store does not answer.
    """
    return [slot.tags[SLOT] for slot in _slots(model, tracking_uri) if slot.outcome]


def set_tag(run: RunRef, name: str, value: str) -> None:
    """Set a tag of a run that has ended.

    Raises:
        UserError: the store does not answer.
    """
    with answering(run.tracking_uri), impatient():
        open_client(run.tracking_uri).set_tag(run.run_id, name, value)


def begin_slot(
    model: str, slot: str, tags: Mapping[str, str], params: Mapping[str, object], tracking_uri: str
) -> TrackedRun:
    """Begin a slot, while this process alone retrains the model.

    Raises:
        UserError: the store does not answer.
    """
    number = 1 + max((before.number for before in _slots(model, tracking_uri)), default=0)
    tags = {MODEL: model, SLOT: slot, NUMBER: str(number), **tags}
    return TrackedRun.start(tracking_uri, EXPERIMENT, f"{model}-{slot}", params, tags)


def training_of(slot: RunRef) -> tuple[RunRef, bool] | None:
    """The newest training of a slot, and whether it has finished; None where none was begun.

    Raises:
        UserError: the store does not answer.
    """
    with answering(slot.tracking_uri), impatient():
        client = open_client(slot.tracking_uri)
        found = _search(client, f"tags.`{PARENT}` = '{slot.run_id}'")
    if not found:
        return None
    info = found[0].info
    return RunRef(info.run_id, info.run_name, slot.tracking_uri), info.status == "FINISHED"


def abandon(run: RunRef) -> None:
    """Delete a run that came to nothing; MLflow can restore it.

    Raises:
        UserError: the store does not answer.
    """
    with answering(run.tracking_uri), impatient():
        open_client(run.tracking_uri).delete_run(run.run_id)


def _slots(model: str, tracking_uri: str, slot: str | None = None) -> list[Slot]:
    """Newest first."""
    uri = absolute(tracking_uri)
    if (file := database(uri)) and not file.exists():
        return []
    with answering(uri), impatient():
        condition = f"tags.`{MODEL}` = '{model}'"
        if slot is not None:
            condition += f" AND tags.`{SLOT}` = '{slot}'"
        found = _search(open_client(uri), condition)
    found_slots = [
        Slot(RunRef(run.info.run_id, run.info.run_name, uri), dict(run.data.tags)) for run in found
    ]
    return sorted(found_slots, key=lambda slot: slot.number, reverse=True)


def _search(client: MlflowClient, condition: str) -> list[Any]:
    experiments = [found.experiment_id for found in client.search_experiments(max_results=50_000)]
    order = ["attributes.start_time DESC"]
    return list(client.search_runs(experiments, condition, max_results=1000, order_by=order))
