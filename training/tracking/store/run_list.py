"""Lists of trainings with their scores, and the places of MLflow's page that show the same."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.store.client import RunRef, open_client
from intertitle.training.tracking.store.mlflow_errors import mlflow_errors, redact, short_timeouts
from intertitle.training.tracking.store.sqlite import absolute, is_missing

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Experiment of the trainings.
EXPERIMENT = "intertitle"
# Metrics to judge a run by, in the order in which they are shown.
MAIN_METRICS = (
    *("cider", "meteor", "bleu_4", "sacrebleu", "vqa_accuracy", "accuracy"),
    *("perplexity", "nats_per_token"),
)
# Number of them that a list shows.
_NUM_MAIN = 3
_EVALUATIONS = "eval/"
# Width and digits of a score in a tag. With blanks in front, a database that compares texts byte by
# byte, as SQLite does, sorts them by size.
_SCORE = "10.4f"
# Name of the view that is stored for MLflow's page, and the tag of the experiment that holds it.
_VIEW = "intertitle"
_VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"
# Number of runs whose scores determine the columns of the view.
_NUM_VIEWED = 100


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A training with its scores.

    Attributes:
        run_id: id of the run.
        name: name of the run.
        recipe: name of its recipe; "" if it has none.
        status: status in MLflow, such as "FINISHED".
        started: time of the start in UTC, ISO 8601.
        seconds: duration in seconds; None while it runs.
        measured: split and search of the scores, such as "val/beam_3"; "" without scores.
        scores: scores by metric.
    """

    run_id: str
    name: str
    recipe: str
    status: str
    started: str
    seconds: float | None
    measured: str
    scores: dict[str, float]

    def main_scores(self) -> dict[str, float]:
        """Return the scores to judge the run by, at most three."""
        available = [name for name in MAIN_METRICS if name in self.scores]
        return {name: self.scores[name] for name in available[:_NUM_MAIN]}


def score_tags(evaluation: str, scores: Mapping[str, float]) -> dict[str, str]:
    """Return the tags that hold the scores of an evaluation.

    A metric of MLflow would be a chart of a single point.

    Args:
        evaluation: name of the evaluation, such as "eval/val/beam_3".
        scores: scores by metric.
    """
    return {f"{evaluation}/{name}": f"{value:{_SCORE}}" for name, value in scores.items()}


def list_runs(tracking_uri: str, limit: int) -> list[ListedRun]:
    """Return the trainings of a store, the newest first.

    Args:
        tracking_uri: tracking URI of the store.
        limit: maximum number of runs.

    Raises:
        UserError: the store does not answer.
    """
    uri = absolute(tracking_uri)
    if is_missing(uri):
        return []
    with mlflow_errors(uri), short_timeouts():
        client = open_client(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        return [_listed(run) for run in _newest(client, experiment.experiment_id, limit)]


def table_path(tracking_uri: str) -> str:
    """Store a view of the trainings in MLflow and return its path on MLflow's page.

    The view is a table with the recipe and the scores of the newest runs.

    Raises:
        UserError: there are no trainings, or the store does not answer.
    """
    uri = absolute(tracking_uri)
    if is_missing(uri):
        raise UserError(f"there are no runs yet at {redact(uri)}")
    with mlflow_errors(uri), short_timeouts():
        client = open_client(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise UserError(f"there are no runs yet at {redact(uri)}")
        scores = _columns(
            _scores_of(run) for run in _newest(client, experiment.experiment_id, _NUM_VIEWED)
        )
        columns = [f"tags.`{name}`" for name in ("recipe", *scores)]
        view = {"selectedColumns": columns, "viewMaximized": False}
        client.set_experiment_tag(experiment.experiment_id, _VIEW_TAG, json.dumps(view))
    return (
        f"/#/experiments/{experiment.experiment_id}/runs?viewStateShareKey={_VIEW}"
        "&compareRunsMode=TABLE"
    )


def run_url(run: RunRef) -> str | None:
    """Return the address of a run's page on an MLflow server; None for a database.

    Raises:
        UserError: the run does not exist, or the server does not answer.
    """
    if not run.tracking_uri.startswith(("http://", "https://")):
        return None
    with mlflow_errors(run.tracking_uri), short_timeouts():
        experiment_id = open_client(run.tracking_uri).get_run(run.run_id).info.experiment_id
    return f"{page_address(run.tracking_uri)}/#/experiments/{experiment_id}/runs/{run.run_id}"


def page_address(tracking_uri: str) -> str:
    """Return the address of an MLflow server's page; one that is passed on has no password."""
    return re.sub(r"//[^/@]*@", "//", tracking_uri).rstrip("/")


def _newest(client: MlflowClient, experiment_id: str, limit: int) -> list[Any]:
    order = ["attributes.start_time DESC"]
    return list(client.search_runs([experiment_id], max_results=limit, order_by=order))


def _scores_of(run: Any) -> dict[str, float]:
    """Return the scores that `score_tags` stored as tags of a run, by the name of the tag."""
    scores = {}
    for name, text in run.data.tags.items():
        if name.startswith(_EVALUATIONS):
            # Notes of an evaluation are tags, too.
            with suppress(ValueError):
                scores[name] = float(text)
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def _columns(scores_of_runs: Iterable[Mapping[str, float]]) -> list[str]:
    """Return the scores to show: for each of `MAIN_METRICS`, the name that most runs have."""
    counts = Counter(name for scores in scores_of_runs for name in scores)
    columns = []
    for metric in MAIN_METRICS:
        names = [name for name in counts if name.rpartition("/")[2] == metric]
        if names:
            columns.append(max(names, key=lambda name: counts[name]))
    return columns


def _listed(run: Any) -> ListedRun:
    info, data = run.info, run.data
    groups: dict[str, dict[str, float]] = {}
    for name, value in _scores_of(run).items():
        group, _, metric = name.removeprefix(_EVALUATIONS).rpartition("/")
        groups.setdefault(group, {})[metric] = value
    # The evaluation at the end of a training is of "val", with the settings of the recipe.
    expected = {"val", f"val/{_search_of(data.params)}"}
    measured = min(
        groups,
        key=lambda group: (group not in expected, group.split("/")[0] != "val", len(group)),
        default="",
    )
    return ListedRun(
        info.run_id,
        info.run_name,
        data.tags.get("recipe", ""),
        info.status,
        datetime.fromtimestamp(info.start_time / 1000, UTC).isoformat(timespec="seconds"),
        (info.end_time - info.start_time) / 1000 if info.end_time else None,
        measured,
        groups.get(measured, {}),
    )


def _search_of(params: Mapping[str, str]) -> str:
    """Return the part of a metric's name that `log_evaluation` gives to the recipe's search."""
    if params.get("search.method") == "sample":
        return "sampled"
    return f"beam_{params.get('search.beam_size', '')}"
