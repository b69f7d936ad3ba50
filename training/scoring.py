"""How good a run's model is on a split, measured and added to the run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from upath import UPath

from pipeline.errors import UserError
from training.config import SearchConfig
from training.data.dataset import open_dataset
from training.data.source import DataSource, describe_data, pictures_of
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.record import write_record
from training.evaluation.sample import Sample
from training.evaluation.statistics import combine
from training.evaluation.tokens import choose_tokenizer
from training.explaining import explain_samples
from training.tracking.plots import length_histogram, score_histogram
from training.tracking.run import RunRef, TrackedRun, download, reopen
from training.trained import TrainedModel, ensemble_of

MODEL_ARTIFACT = "model"
EVALUATIONS = "eval"  # the folder of a run's evaluations
EXACT_WINDOW = 1000
# Metrics whose scores of single sentences are drawn.
DRAWN = ("sacrebleu", "meteor", "rouge_l", "cider")
# Samples that a table shows, each with its picture.
NUM_SHOWN = 30
# Of these, so many have a picture of where the model looked.
NUM_EXPLAINED = 6


def load_trained(ref: RunRef) -> TrainedModel:
    """The model that a run kept.

    Raises:
        UserError: it kept none, or the files are damaged.
    """
    return TrainedModel.read(download(ref, MODEL_ARTIFACT))


def load_together(runs: Sequence[RunRef]) -> TrainedModel:
    """The models of some runs as one, with the first's recipe.

    Raises:
        UserError: as of `load_trained`; one is there twice, or they do not make an ensemble.
    """
    members = {run.run_id: run for run in runs}
    if len(members) < len(runs):
        raise UserError("--ensemble: the same run twice")
    return ensemble_of({run.name: load_trained(run) for run in members.values()})


def evaluate_run(
    ref: RunRef,
    *,
    split: str,
    corpus: UPath | Path | None = None,
    features: UPath | Path | None = None,
    ensemble: Sequence[RunRef] = (),
    tokenizer: str | None = None,
    max_source_tokens: int | None = None,
    **search: object,
) -> Evaluation:
    """Measure a run's model on a split, and add the scores to the run.

    Args:
        ref: the run.
        split: of the corpus.
        corpus: None is the one it was trained on.
        features: likewise.
        ensemble: more runs, whose models tell together with it.
        tokenizer: of the metrics, see `EvaluationConfig`; None is as in the recipe.
        max_source_tokens: a longer source is cut; None is as in the recipe.
        search: fields of `SearchConfig`; None is as in the recipe.

    Raises:
        UserError: no such split, features of another make than the model's, or runs that do not
            make an ensemble.
    """
    trained = load_together([ref, *ensemble]).on_gpu_if_any()
    searched = trained.searching(**search).recipe.search
    data = data_for(trained, corpus, features)
    changed = changed_settings(trained, data, tokenizer, max_source_tokens)
    evaluation = measure(trained.reading(max_source_tokens), data, split, searched, tokenizer)
    others = [other.run_id for other in ensemble]
    with reopen(ref) as run:
        log_evaluation(run, trained, data, evaluation, searched, others, changed=changed)
    return evaluation


def changed_settings(
    trained: TrainedModel,
    data: DataSource,
    tokenizer: str | None = None,
    max_source_tokens: int | None = None,
) -> dict[str, str | int]:
    """What of an evaluation besides its search is otherwise than the run's recipe has it.

    Raises:
        UserError: a tokenizer for a model that tells no sentences.
    """
    if tokenizer is not None and trained.task.tells != "sentence":
        raise UserError(
            f"--tokenizer {tokenizer}: of no use to {trained.recipe.name}: it tells no sentences"
        )
    own, language = trained.recipe, data.target_language
    changed: dict[str, str | int] = {}
    if tokenizer is not None:
        chosen = choose_tokenizer(tokenizer, language)
        if chosen != choose_tokenizer(own.evaluation.tokenizer, language):
            changed["tokenizer"] = chosen
    if max_source_tokens and max_source_tokens != own.source_tokenizer.max_tokens:
        changed["max_source_tokens"] = max_source_tokens
    return changed


def data_for(
    trained: TrainedModel, corpus: UPath | Path | None, features: UPath | Path | None
) -> DataSource:
    """Data to use a model on, as it is now: what has changed since the training is named, not
    passed over.

    Args:
        trained: the model.
        corpus: None is the one it was trained on.
        features: likewise.

    Raises:
        UserError: there is none, or it is not what the model's task sees.
    """
    learned = trained.data.features
    store = features or (learned.path if learned else None)
    return describe_data(corpus or trained.data.corpus, store, trained.task.sees)


def measure(
    trained: TrainedModel,
    data: DataSource,
    split: str,
    search: SearchConfig,
    tokenizer: str | None = None,
) -> Evaluation:
    """Measure a model on a split of some data.

    Raises:
        UserError: no such split, features of another make than the model's, or a tokenizer that
            can't be had.
    """
    recipe, vocabularies = trained.recipe, trained.vocabularies
    if trained.task.tells == "stream":
        # One lane: the state is carried through the whole of the text.
        settings = recipe.training.model_copy(
            update={"batch_tokens": EXACT_WINDOW, "window": EXACT_WINDOW}
        )
        recipe = recipe.model_copy(update={"training": settings})
    dataset = open_dataset(trained.wanting(data), split, recipe, trained.task, vocabularies)
    return evaluate(
        trained.model,
        vocabularies.target,
        dataset,
        split,
        search,
        recipe.training,
        tokenizer or recipe.evaluation.tokenizer,
    )


def log_evaluation(
    run: TrackedRun,
    trained: TrainedModel,
    data: DataSource,
    evaluation: Evaluation,
    search: SearchConfig,
    others: Sequence[str] = (),
    predictions: str | None = None,
    changed: Mapping[str, str | int] | None = None,
) -> None:
    """Add scores, every example and samples to a run under a name of their own.

    The name says the split and what of the search is otherwise than the run's recipe has it, so
    that MLflow's curves are each of one kind of evaluation. Nothing is overwritten: of several
    evaluations alike each keeps its folder.

    Args:
        run: to add to.
        trained: what was measured, and
        data: on what.
        evaluation: what came of it.
        search: how sentences were found.
        others: the ids of the other runs of an ensemble.
        predictions: the name of what was measured, where it is not the model's own.
        changed: see `changed_settings`.
    """
    prefix = EVALUATIONS
    if data.corpus_fingerprint != trained.data.corpus_fingerprint:
        prefix += f"/corpus_{data.corpus_fingerprint[:8]}"
    prefix += f"/{evaluation.split}"
    if predictions is not None:
        prefix += f"/predictions_{_plain(predictions)}"
    elif trained.task.tells == "sentence":
        beam = search.method == "beam"
        prefix += f"/beam_{search.beam_size}" if beam else "/sampled"
        own = trained.recipe.search.model_dump(exclude={"method", "beam_size"})
        for field, value in own.items():
            if (given := getattr(search, field)) != value:
                prefix += f"_{field}_{_plain(str(given))}"
    for name, setting in (changed or {}).items():
        prefix += f"_{name}_{setting}"
    if others:
        prefix += f"/ensemble_of_{1 + len(others)}"
    stamp = f"{prefix}/{run.new_stamp(EVALUATIONS)}"
    scores = evaluation.scores
    tokenizer = choose_tokenizer(
        str((changed or {}).get("tokenizer", trained.recipe.evaluation.tokenizer)),
        data.target_language,
    )
    run.metrics({f"{prefix}/{name}": v for name, v in scores.values.items()}, trained.step)
    how = {
        "split": evaluation.split,
        "num_examples": evaluation.num_examples,
        "num_left_out": evaluation.num_left_out,
        "data": data.facts(),
        "search": search.model_dump(),
        "ensemble": [run.run_id, *others],
        **({} if predictions is None else {"predictions": predictions}),
        "changed": dict(changed or {}),
        "tokenizer": tokenizer,
        "scores": scores.values,
        "signatures": scores.signatures,
        "not_measured": scores.not_measured,
        "warnings": list(scores.warnings),
    }
    notes = {
        "not_measured": "; ".join(f"{name}: {why}" for name, why in scores.not_measured.items()),
        "warnings": "; ".join(scores.warnings),
    }
    if any(notes.values()):
        run.tags({f"{prefix}/{name}": note for name, note in notes.items() if note})
    with tempfile.TemporaryDirectory() as folder:
        write_record(Path(folder), evaluation, how)
        if predictions is None:
            # An example's number is its sample's place.
            explained = {n: evaluation.samples[n] for n in _some(_shown(evaluation), NUM_EXPLAINED)}
            explain_samples(trained, data, search, explained, Path(folder) / "attention")
        run.folder(Path(folder), stamp)
    run.table(f"{stamp}/samples", sample_rows(evaluation, data))
    if trained.task.tells != "sentence":
        return
    hypotheses = [sample.hypothesis for sample in evaluation.samples]
    references = [sample.references for sample in evaluation.samples]
    run.figure(f"{stamp}/lengths", length_histogram(hypotheses, references, tokenizer))
    each = {
        name: combine(name, scores.statistics[name]).tolist()
        for name in DRAWN
        if name in scores.values
    }
    run.figure(f"{stamp}/scores", score_histogram(each))


def _plain(name: str) -> str:
    """What MLflow allows in the name of a metric."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)[:80]


def sample_row(sample: Sample) -> dict[str, object]:
    """A sample as a line of a table."""
    source = {} if sample.source is None else {"source": sample.source}
    return {
        "id": sample.id,
        **source,
        "hypothesis": sample.hypothesis,
        "references": " | ".join(sample.references),
        "score": sample.score,
    }


def sample_rows(evaluation: Evaluation, data: DataSource) -> list[dict[str, object]]:
    """Some of an evaluation's samples, spread over the split, with pictures where there are any."""
    if evaluation.texts:
        return [sample_row(text) for text in evaluation.texts]
    shown = [evaluation.samples[n] for n in _shown(evaluation)]
    keys = [sample.item_key for sample in shown if sample.item_key is not None]
    pictures = pictures_of(data.corpus, keys) if keys else {}
    return [
        ({"picture": pictures.get(sample.item_key or "")} if pictures else {}) | sample_row(sample)
        for sample in shown
    ]


def _shown(evaluation: Evaluation) -> range:
    """The numbers of the samples that are shown."""
    return _some(range(len(evaluation.samples)), NUM_SHOWN)


def _some(numbers: range, num: int) -> range:
    """So many of them at most, spread evenly."""
    return numbers[:: -(-len(numbers) // num)]
