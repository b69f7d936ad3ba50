"""Slots of a retraining schedule: each is an MLflow run that stores the outcome and its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import RunRef, open_client
from intertitle.training.tracking.store.mlflow_errors import mlflow_errors, short_timeouts
from intertitle.training.tracking.store.sqlite import absolute, is_missing

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
# Name of the pin of a slot's data, and whether the data had anything new: "yes" or "no".
PIN, NEW = "retrain.pin", "retrain.new"
# Number of a slot in the order in which a model's slots started, since clocks of hosts differ.
NUMBER = "retrain.number"


@dataclass(frozen=True)
class RetrainingRun:
    """Slot that was started.

    Attributes:
        run: MLflow run of the slot.
        tags: tags of the run.
    """

    run: RunRef
    tags: Mapping[str, str]

    @property
    def outcome(self) -> str | None:
        """Outcome of the slot; None if it is not finished."""
        return self.tags.get(OUTCOME)

    @property
    def number(self) -> int:
        """Number of the slot, greater than those of all earlier slots; 0 if it has none."""
        return int(self.tags.get(NUMBER, "0"))


def find_slot(model: str, slot: str, tracking_uri: str) -> RetrainingRun | None:
    """Find a slot of a model; None if it was not started.

    Raises:
        UserError: the store does not answer.
    """
    return next(iter(_slots(model, tracking_uri, slot)), None)


def newest_corpus(model: str, tracking_uri: str) -> str | None:
    """Return the fingerprint of the corpus that the newest finished slot used, or None.

    Raises:
        UserError: the store does not answer.
    """
    finished = (slot for slot in _slots(model, tracking_uri) if slot.outcome)
    return next((slot.tags[CORPUS] for slot in finished if CORPUS in slot.tags), None)


def finished_slots(model: str, tracking_uri: str) -> list[str]:
    """Return the names of a model's finished slots, the one that started last first.

    Raises:
        UserError: the store does not answer.
    """
    return [slot.tags[SLOT] for slot in _slots(model, tracking_uri) if slot.outcome]


def set_tag(run: RunRef, name: str, value: str) -> None:
    """Set a tag of a run that has ended.

    Raises:
        UserError: the store does not answer.
    """
    with mlflow_errors(run.tracking_uri), short_timeouts():
        open_client(run.tracking_uri).set_tag(run.run_id, name, value)


def begin_slot(
    model: str, slot: str, tags: Mapping[str, str], params: Mapping[str, object], tracking_uri: str
) -> TrackedRun:
    """Start a slot; the caller must be the only process that retrains the model.

    Raises:
        UserError: the store does not answer.
    """
    number = 1 + max((before.number for before in _slots(model, tracking_uri)), default=0)
    tags = {MODEL: model, SLOT: slot, NUMBER: str(number), **tags}
    return TrackedRun.start(tracking_uri, EXPERIMENT, f"{model}-{slot}", params, tags)


def training_of(slot: RunRef) -> tuple[RunRef, bool] | None:
    """Return the newest training of a slot and whether it has finished; None if none was started.

    Raises:
        UserError: the store does not answer.
    """
    with mlflow_errors(slot.tracking_uri), short_timeouts():
        client = open_client(slot.tracking_uri)
        trainings = _search(client, f"tags.`{PARENT}` = '{slot.run_id}'")
    if not trainings:
        return None
    info = trainings[0].info
    return RunRef(info.run_id, info.run_name, slot.tracking_uri), info.status == "FINISHED"


def abandon(run: RunRef) -> None:
    """Delete a run without a result; MLflow can restore it.

    Raises:
        UserError: the store does not answer.
    """
    with mlflow_errors(run.tracking_uri), short_timeouts():
        open_client(run.tracking_uri).delete_run(run.run_id)


def _slots(model: str, tracking_uri: str, slot: str | None = None) -> list[RetrainingRun]:
    """Return the slots of a model, newest first."""
    uri = absolute(tracking_uri)
    if is_missing(uri):
        return []
    with mlflow_errors(uri), short_timeouts():
        condition = f"tags.`{MODEL}` = '{model}'"
        if slot is not None:
            condition += f" AND tags.`{SLOT}` = '{slot}'"
        mlflow_runs = _search(open_client(uri), condition)
    slots = [
        RetrainingRun(RunRef(run.info.run_id, run.info.run_name, uri), dict(run.data.tags))
        for run in mlflow_runs
    ]
    return sorted(slots, key=lambda slot: slot.number, reverse=True)


def _search(client: MlflowClient, condition: str) -> list[Any]:
    experiments = [entry.experiment_id for entry in client.search_experiments(max_results=50_000)]
    order = ["attributes.start_time DESC"]
    return list(client.search_runs(experiments, condition, max_results=1000, order_by=order))
