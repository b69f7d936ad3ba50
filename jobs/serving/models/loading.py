"""Models of the store: which version an alias names, and everything that a replica needs of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from intertitle.jobs.serving.config import LimitConfig, followed_model
from intertitle.jobs.serving.models.predictor import Predictor
from intertitle.jobs.serving.schemas import EvaluatedExample, ModelDetails, Score
from intertitle.pipeline.errors import UserError
from intertitle.training.evaluation.metrics.sufficient_stats import combine, smaller_is_better
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.evaluation.significance import score_intervals
from intertitle.training.inference.model_bundle import TrainedModel, load_trained
from intertitle.training.inference.pyfunc import signature_of
from intertitle.training.reports.compare import EXAMPLE_METRICS
from intertitle.training.reports.evaluations import find_newest
from intertitle.training.tracking.registry.alias_moves import version_of
from intertitle.training.tracking.store.client import RunRef, open_client, resolve_run
from intertitle.training.tracking.store.mlflow_errors import mlflow_errors, redact, short_timeouts
from intertitle.training.tracking.store.sqlite import absolute, is_missing

# Splits whose scores a model is described by, the first one that it was evaluated on.
_SPLITS = ("test", "val", "dev")
# Examples on each side of a model's description.
_NUM_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A run that a reference names at a time.

    Attributes:
        spec: reference, such as `models:/NAME@champion`.
        version: version in the registry; None for a run that was named otherwise.
        run: the run.
    """

    spec: str
    version: str | None
    run: RunRef

    def __str__(self) -> str:
        version = f"version {self.version}, " if self.version else ""
        return f"{version}run {self.run.name}"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        version: version that it is.
        predictor: the model with what its answers need.
        details: what is known about the model.
    """

    version: ModelVersion
    predictor: Predictor
    details: ModelDetails


def resolve_version(spec: str, tracking_uri: str) -> ModelVersion:
    """Find the run that a reference names now.

    Raises:
        UserError: there is none, or the store does not answer.
    """
    run = resolve_run(spec, tracking_uri)
    model = followed_model(spec)
    if model is None:
        version = spec.rpartition("/")[2] if spec.startswith("models:/") else None
        return ModelVersion(spec, version, run)
    with mlflow_errors(run.tracking_uri), short_timeouts():
        number = version_of(open_client(run.tracking_uri), model, spec.rpartition("@")[2])
    if number is not None:
        # The alias may have moved since its run was looked up; a version never does.
        run = resolve_run(f"models:/{model}/{number}", tracking_uri)
    return ModelVersion(spec, number, run)


def has_alias(spec: str, tracking_uri: str) -> bool:
    """Return whether the registered model of `models:/NAME@ALIAS` has the alias.

    Raises:
        UserError: there is no store, the model does not exist, or the store does not answer.
    """
    uri = absolute(tracking_uri)
    if is_missing(uri):
        raise UserError(f"{spec}: there are no models yet at {redact(uri)}")
    with mlflow_errors(uri), short_timeouts():
        alias = spec.rpartition("@")[2]
        return version_of(open_client(uri), str(followed_model(spec)), alias) is not None


def load(name: str, version: ModelVersion, limits: LimitConfig) -> LoadedModel:
    """Load a model, and its backbone if it reads files.

    Args:
        name: name of the model in URLs.
        version: version to load.
        limits: limits on what callers may use.

    Raises:
        UserError: the run has no model, or this machine cannot compute its features.
    """
    predictor = Predictor(load_trained(version.run).to_default_device(), limits)
    return LoadedModel(version, predictor, _describe(name, version, predictor))


def _describe(name: str, version: ModelVersion, predictor: Predictor) -> ModelDetails:
    """Describe a model; scores and examples are missing if the store does not answer."""
    trained = predictor.trained
    vocabularies = trained.vocabularies
    record = _newest_record(version.run)
    best, worst = _examples(record) if record else ([], [])
    data, tags = _data_and_tags(version.run)
    return ModelDetails(
        name=name,
        spec=version.spec,
        version=version.version,
        run_id=version.run.run_id,
        run=version.run.name,
        task=_task_name(trained),
        vocabulary=len(vocabularies.target),
        source_vocabulary=len(vocabularies.source) if vocabularies.source else 0,
        visual_input=trained.task.visual_input,
        has_source=trained.task.has_source,
        output=trained.task.output,
        parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
        step=trained.step,
        recipe=trained.recipe.name,
        search=trained.recipe.search.model_dump(),
        scores=_scores(record) if record else [],
        best=best,
        worst=worst,
        signature=dict(signature_of(trained).to_dict()),
        corpus=trained.data.corpus.rstrip("/").rpartition("/")[2],
        attention=predictor.attention,
        uses=getattr(trained.recipe.model, "uses", None),
        data=data,
        features=[
            f"{fingerprint['backbone']}, frames {fingerprint['sampling']}"
            for fingerprint in map(json.loads, trained.data.fingerprints)
        ],
        limits=tags.get("limits", ""),
        license=tags.get("license", ""),
    )


def _task_name(trained: TrainedModel) -> str:
    task = trained.task
    visual = task.visual_input != "nothing"
    names: dict[Any, str] = {
        ("sentence", True, False): "captioning",
        ("sentence", False, True): "translation",
        ("label", True, True): "question answering",
        ("label", False, True): "text classification",
        ("label", True, False): "classification",
        ("label_per_frame", True, False): "tagging",
        ("stream", False, False): "language modelling",
    }
    return names.get((task.output, visual, task.has_source), "generation")


def _data_and_tags(run: RunRef) -> tuple[dict[str, int], dict[str, str]]:
    """Return what a run records of its corpus, and its tags, if the store answers."""
    try:
        with mlflow_errors(run.tracking_uri), short_timeouts():
            stored = open_client(run.tracking_uri).get_run(run.run_id)
    except UserError:
        return {}, {}
    inputs = stored.inputs.dataset_inputs if stored.inputs else ()
    profile = next((i.dataset.profile for i in inputs if i.dataset.name == "corpus"), None)
    return json.loads(profile or "{}"), stored.data.tags


def _newest_record(run: RunRef) -> EvaluationRecord | None:
    """Return the newest evaluation of a run, or None, also if the store does not answer."""
    try:
        for split in _SPLITS:
            evaluation = find_newest(run, split)
            if evaluation is not None:
                return evaluation.record
    except UserError:
        pass
    return None


def _scores(record: EvaluationRecord) -> list[Score]:
    """Return the scores of an evaluation, each with its 95 % interval."""
    split = str(record.description["split"])
    return [
        Score(metric=metric, split=split, value=score.value, low=score.low, high=score.high)
        for metric, score in score_intervals(record.statistics).items()
        if np.isfinite([score.value, score.low, score.high]).all()
    ]


def _examples(
    record: EvaluationRecord,
) -> tuple[list[EvaluatedExample], list[EvaluatedExample]]:
    """Return the examples with the best and with the worst answers, and none of running text."""
    metric = next((name for name in EXAMPLE_METRICS if name in record.statistics), None)
    if metric is None or not any(record.hypotheses):
        return [], []
    scores = combine(metric, record.statistics[metric])
    order = np.argsort(scores if smaller_is_better(metric) else -scores, kind="stable")
    num = min(_NUM_EXAMPLES, len(order) // 2)

    def entries(numbers: Iterable[int]) -> list[EvaluatedExample]:
        return [
            EvaluatedExample(
                input=" ".join(filter(None, (record.item_keys[n], record.sources[n]))),
                output=record.hypotheses[n],
                reference=(record.references[n] or ("",))[0],
                metric=metric,
                score=float(scores[n]),
            )
            for n in numbers
        ]

    return entries(order[:num]), entries(order[::-1][:num])
