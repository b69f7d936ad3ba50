"""How good a run's model is on a split, measured and added to the run."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from upath import UPath

from training.config import SearchConfig
from training.data.dataset import open_dataset
from training.data.source import DataSource, describe_data
from training.evaluation.evaluate import Evaluation, Sample, evaluate
from training.tracking.plots import length_histogram
from training.tracking.run import RunRef, TrackedRun, download, reopen
from training.trained import TrainedModel

MODEL_ARTIFACT = "model"
EXACT_WINDOW = 1000


def load_trained(ref: RunRef) -> TrainedModel:
    """The model that a run kept.

    Raises:
        UserError: it kept none, or the files are damaged.
    """
    return TrainedModel.read(download(ref, MODEL_ARTIFACT))


def evaluate_run(
    ref: RunRef,
    *,
    split: str,
    beam_size: int | None = None,
    corpus: UPath | Path | None = None,
    features: UPath | Path | None = None,
) -> Evaluation:
    """Measure a run's model on a split, and add the scores to the run.

    Args:
        ref: the run.
        split: of the corpus.
        beam_size: K; None is as in the recipe.
        corpus: None is the one it was trained on.
        features: likewise.

    Raises:
        UserError: no such split, or features of another make than the model's.
    """
    trained = load_trained(ref)
    search = trained.recipe.search
    if beam_size is not None:
        search = search.model_copy(update={"beam_size": beam_size})
    # As it is now: what has changed since the training is measured and named, not passed over.
    learned = trained.data.features
    store = features or (learned.path if learned else None)
    data = describe_data(corpus or trained.data.corpus, store, trained.task.sees)
    evaluation = measure(trained, data, split, search)
    with reopen(ref) as run:
        log_evaluation(run, trained, data, evaluation, search)
    return evaluation


def measure(
    trained: TrainedModel, data: DataSource, split: str, search: SearchConfig
) -> Evaluation:
    """Measure a model on a split of some data.

    Raises:
        UserError: no such split, or features of another make than the model's.
    """
    if data.features and trained.data.features:
        # The features have to be of the make that the model was trained on.
        make = replace(data.features, fingerprint=trained.data.features.fingerprint)
        data = replace(data, features=make)
    recipe, vocabularies = trained.recipe, trained.vocabularies
    if trained.task.tells == "stream":
        # One lane: the state is carried through the whole of the text.
        settings = recipe.training.model_copy(
            update={"batch_tokens": EXACT_WINDOW, "window": EXACT_WINDOW}
        )
        recipe = recipe.model_copy(update={"training": settings})
    dataset = open_dataset(data, split, recipe, trained.task, vocabularies)
    return evaluate(trained.model, vocabularies.target, dataset, split, search, recipe.training)


def log_evaluation(
    run: TrackedRun,
    trained: TrainedModel,
    data: DataSource,
    evaluation: Evaluation,
    search: SearchConfig,
) -> None:
    """Add scores and samples to a run under a name of their own: nothing is overwritten."""
    prefix = f"eval/{evaluation.split}"
    if trained.task.tells == "sentence":
        prefix += f"/beam_{search.beam_size}"
    if data.corpus_fingerprint != trained.data.corpus_fingerprint:
        prefix = f"eval/corpus_{data.corpus_fingerprint[:8]}/{prefix.removeprefix('eval/')}"
    stamp = f"{prefix}/{datetime.now():%Y%m%dT%H%M%S}"
    scores = evaluation.scores
    run.metrics({f"{prefix}/{name}": v for name, v in scores.values.items()}, trained.step)
    how = {
        "split": evaluation.split,
        "num_examples": evaluation.num_examples,
        "num_left_out": evaluation.num_left_out,
        "data": asdict(data),
        "search": search.model_dump(),
        "scores": scores.values,
        "signatures": scores.signatures,
    }
    run.text(f"{stamp}/how.json", json.dumps(how, indent=1))
    run.table(f"{stamp}/samples", [sample_row(sample) for sample in evaluation.samples])
    if trained.task.tells != "sentence":
        return
    hypotheses = [sample.hypothesis for sample in evaluation.samples]
    references = [sample.references for sample in evaluation.samples]
    run.figure(f"{stamp}/lengths", length_histogram(hypotheses, references))


def sample_row(sample: Sample) -> dict[str, object]:
    """A sample as a line of a table."""
    return {
        "id": sample.id,
        "source": sample.source or "",
        "hypothesis": sample.hypothesis,
        "references": " | ".join(sample.references),
        "score": sample.score,
    }
