"""Measure a run's model on a split, and log the results to the run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import SearchConfig
from intertitle.training.data.data_ref import DataRef, thumbnails_of
from intertitle.training.data.dataset import Dataset, open_dataset
from intertitle.training.evaluation.evaluate import (
    Answer,
    Evaluation,
    evaluate,
    make_samples,
    make_scorer,
)
from intertitle.training.evaluation.metric_tokenizer import choose_tokenizer
from intertitle.training.evaluation.record import EVALUATIONS, write_record
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.sufficient_stats import combine
from intertitle.training.inference.attention_maps import explain_samples
from intertitle.training.inference.model_bundle import (
    TrainedModel,
    data_for,
    load_ensemble,
    load_trained,
)
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.inference.predictor import build_split_inputs
from intertitle.training.reports.plots import length_histogram, score_histogram
from intertitle.training.tracking.run import RunRef, TrackedRun, reopen

# Window in tokens that running text is read with, as one stream, so that its likelihood is exact.
EXACT_WINDOW = 1000
# Metrics that have a histogram of the scores of single sentences.
HISTOGRAM_METRICS = ("sacrebleu", "meteor", "rouge_l", "cider")
# Number of samples in the table of samples, each with its image or frames.
NUM_SHOWN = 30
# Number of these samples that have images of the attention weights.
NUM_EXPLAINED = 6


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
    """Measure a run's model on a split, and log the scores to the run.

    Args:
        ref: run to measure.
        split: name of a split of the corpus.
        corpus: folder or URL of a corpus; None uses the one that the model was trained on.
        features: feature store; None uses the one that the model was trained on.
        ensemble: more runs, whose models predict together with that of `ref`.
        tokenizer: name of a metric tokenizer, see `EvaluationConfig`; None uses that of the recipe.
        max_source_tokens: length to which longer sources are cut; None uses that of the recipe.
        search: fields of `SearchConfig`; fields that are None have the value of the recipe.

    Raises:
        UserError: the split does not exist, the features do not fit the model, or the runs can't
            form an ensemble.
    """
    trained = load_ensemble([ref, *ensemble]).to_default_device()
    search_config = trained.with_search(**search).recipe.search
    data = data_for(trained, corpus, features)
    changed = changed_settings(trained, data, tokenizer, max_source_tokens)
    evaluation = measure(trained.reading(max_source_tokens), data, split, search_config, tokenizer)
    ensemble_ids = [member.run_id for member in ensemble]
    with reopen(ref) as run:
        log_evaluation(run, trained, data, evaluation, search_config, ensemble_ids, changed=changed)
    return evaluation


def changed_settings(
    trained: TrainedModel,
    data: DataRef,
    tokenizer: str | None = None,
    max_source_tokens: int | None = None,
) -> dict[str, str | int]:
    """Return the settings of an evaluation that differ from the recipe, except those of the search.

    Raises:
        UserError: a tokenizer was passed for a model that does not generate sentences.
    """
    if tokenizer is not None and trained.task.output != "sentence":
        raise UserError(
            f"--tokenizer {tokenizer}: of no use to {trained.recipe.name}: it writes no sentences"
        )
    recipe, language = trained.recipe, data.target_language
    changed: dict[str, str | int] = {}
    if tokenizer is not None:
        chosen = choose_tokenizer(tokenizer, language)
        if chosen != choose_tokenizer(recipe.evaluation.tokenizer, language):
            changed["tokenizer"] = chosen
    if max_source_tokens and max_source_tokens != recipe.source_tokenizer.max_tokens:
        changed["max_source_tokens"] = max_source_tokens
    return changed


def measure(
    trained: TrainedModel,
    data: DataRef,
    split: str,
    search: SearchConfig,
    tokenizer: str | None = None,
) -> Evaluation:
    """Measure a model on a split of some data.

    Raises:
        UserError: the split does not exist, the features do not fit the model, or the tokenizer is
            not available.
    """
    recipe, vocabularies = trained.recipe, trained.vocabularies
    if trained.task.output == "stream":
        # Read the text as one stream: the recurrent state is carried through all of it.
        settings = recipe.training.model_copy(
            update={"batch_tokens": EXACT_WINDOW, "window": EXACT_WINDOW}
        )
        recipe = recipe.model_copy(update={"training": settings})
    dataset = open_dataset(
        trained.with_expected_features(data), split, recipe, trained.task, vocabularies
    )
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
    data: DataRef,
    evaluation: Evaluation,
    search: SearchConfig,
    other_run_ids: Sequence[str] = (),
    predictions: str | None = None,
    changed: Mapping[str, str | int] | None = None,
) -> None:
    """Log scores, every example and samples to a run, under a name of their own.

    The name contains the split and every search setting that differs from the run's recipe, so that
    each curve in MLflow shows one kind of evaluation. Nothing is overwritten: repeated evaluations
    of the same kind have a folder each.

    Args:
        run: run to log to.
        trained: model that was measured.
        data: data that it was measured on.
        evaluation: results.
        search: settings of the search.
        other_run_ids: ids of the other runs of an ensemble.
        predictions: name of the predictions that were measured, if they are not from the model.
        changed: results of `changed_settings`.
    """
    prefix = EVALUATIONS
    if data.corpus_fingerprint != trained.data.corpus_fingerprint:
        prefix += f"/corpus_{data.corpus_fingerprint[:8]}"
    prefix += f"/{evaluation.split}"
    if predictions is not None:
        prefix += f"/predictions_{_metric_safe(predictions)}"
    elif trained.task.output == "sentence":
        beam = search.method == "beam"
        prefix += f"/beam_{search.beam_size}" if beam else "/sampled"
        recipe_search = trained.recipe.search.model_dump(exclude={"method", "beam_size"})
        for field, value in recipe_search.items():
            if (actual := getattr(search, field)) != value:
                prefix += f"_{field}_{_metric_safe(str(actual))}"
    for name, setting in (changed or {}).items():
        prefix += f"_{name}_{setting}"
    if other_run_ids:
        prefix += f"/ensemble_of_{1 + len(other_run_ids)}"
    stamp = f"{prefix}/{run.new_stamp(EVALUATIONS)}"
    scores = evaluation.scores
    tokenizer = choose_tokenizer(
        str((changed or {}).get("tokenizer", trained.recipe.evaluation.tokenizer)),
        data.target_language,
    )
    run.metrics({f"{prefix}/{name}": v for name, v in scores.values.items()}, trained.step)
    description = {
        "split": evaluation.split,
        "num_examples": evaluation.num_examples,
        "num_left_out": evaluation.num_left_out,
        "data": data.facts(),
        "search": search.model_dump(),
        "ensemble": [run.run_id, *other_run_ids],
        **({} if predictions is None else {"predictions": predictions}),
        "changed": dict(changed or {}),
        "tokenizer": tokenizer,
        "scores": scores.values,
        "signatures": scores.signatures,
        "not_measured": scores.not_measured,
        "warnings": list(scores.warnings),
    }
    notes = {
        "not_measured": "; ".join(
            f"{name}: {reason}" for name, reason in scores.not_measured.items()
        ),
        "warnings": "; ".join(scores.warnings),
    }
    if any(notes.values()):
        run.tags({f"{prefix}/{name}": note for name, note in notes.items() if note})
    with tempfile.TemporaryDirectory() as folder:
        write_record(Path(folder), evaluation, description)
        if predictions is None:
            # The number of an example is the index of its sample.
            explained = {
                n: evaluation.samples[n] for n in _spread(_shown_indices(evaluation), NUM_EXPLAINED)
            }
            explain_samples(trained, data, search, explained, Path(folder) / "attention")
        run.folder(Path(folder), stamp)
    run.table(f"{stamp}/samples", sample_rows(evaluation, data))
    if trained.task.output != "sentence":
        return
    hypotheses = [sample.hypothesis for sample in evaluation.samples]
    references = [sample.references for sample in evaluation.samples]
    run.figure(f"{stamp}/lengths", length_histogram(hypotheses, references, tokenizer))
    metric_scores = {
        name: combine(name, scores.statistics[name]).tolist()
        for name in HISTOGRAM_METRICS
        if name in scores.values
    }
    run.figure(f"{stamp}/scores", score_histogram(metric_scores))


def _metric_safe(name: str) -> str:
    """Replace the characters that MLflow does not allow in the name of a metric."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)[:80]


def sample_row(sample: Sample) -> dict[str, object]:
    """Return a sample as a row of a table."""
    source = {} if sample.source is None else {"source": sample.source}
    return {
        "id": sample.id,
        **source,
        "hypothesis": sample.hypothesis,
        "references": " | ".join(sample.references),
        "score": sample.score,
    }


def sample_rows(evaluation: Evaluation, data: DataRef) -> list[dict[str, object]]:
    """Return some samples of an evaluation, spread over the split, with images if there are any."""
    if evaluation.texts:
        return [sample_row(text) for text in evaluation.texts]
    selected = [evaluation.samples[n] for n in _shown_indices(evaluation)]
    keys = [sample.item_key for sample in selected if sample.item_key is not None]
    thumbnails = thumbnails_of(data.corpus, keys) if keys else {}
    return [
        ({"picture": thumbnails.get(sample.item_key or "")} if thumbnails else {})
        | sample_row(sample)
        for sample in selected
    ]


def _shown_indices(evaluation: Evaluation) -> range:
    """Return the indices of the samples that are logged in a table."""
    return _spread(range(len(evaluation.samples)), NUM_SHOWN)


def _spread(numbers: range, num: int) -> range:
    """Return at most `num` of the numbers, spread evenly."""
    return numbers[:: -(-len(numbers) // num)]


NOT_OF_A_MODEL = "the sentences are from a file, not of a model"


def score_predictions(
    ref: RunRef,
    predictions: Sequence[Prediction],
    name: str,
    *,
    split: str,
    corpus: UPath | Path | None = None,
    features: UPath | Path | None = None,
    tokenizer: str | None = None,
) -> Evaluation:
    """Measure predictions against the references of a run's data, and log the scores to the run.

    Args:
        ref: run whose data has the references.
        predictions: one or more predictions for each example, of which the first by rank counts;
            those for examples whose item is in quarantine are skipped.
        name: name of the predictions.
        split: name of a split of the corpus.
        corpus: folder or URL of a corpus; None uses the one that the model was trained on.
        features: feature store; None uses the one that the model was trained on.
        tokenizer: name of a metric tokenizer, see `EvaluationConfig`; None uses that of the recipe.

    Raises:
        UserError: an example has no prediction, a prediction has an unknown id, the split does not
            exist, or the run's model does not generate sentences.
    """
    trained = load_trained(ref)
    if trained.task.output != "sentence":
        raise UserError(
            f"--predictions: of no use to {trained.recipe.name}: it writes no sentences"
        )
    data = data_for(trained, corpus, features)
    inputs = build_split_inputs(trained, data, split)
    dataset, left_out = inputs.questions, frozenset(inputs.left_out)
    assert isinstance(dataset, Dataset)
    numbers = {example.id: n for n, example in enumerate(dataset.examples)}
    best: dict[int, Prediction] = {}
    for prediction in predictions:
        if prediction.id in left_out:
            continue
        n = numbers.get(prediction.id)
        if n is None:
            raise UserError(f"--predictions: id {prediction.id!r}, allowed: those of {split!r}")
        if n not in best or prediction.rank < best[n].rank:
            best[n] = prediction
    if missing := [id for id, n in numbers.items() if n not in best]:
        raise UserError(
            f"--predictions: {len(missing)} examples of {split!r} have none, {missing[0]!r} first, "
            "allowed: one for each"
        )
    answers = [Answer((best[n].text,), best[n].score) for n in range(len(numbers))]
    recipe_tokenizer = trained.recipe.evaluation.tokenizer
    scores = make_scorer(dataset, tokenizer or recipe_tokenizer).score(answers, quick=False)
    of_the_model = dict.fromkeys(("nats_per_token", "perplexity", "search_errors"), NOT_OF_A_MODEL)
    scores = replace(scores, not_measured=scores.not_measured | of_the_model)
    samples = tuple(make_samples(dataset, dict(enumerate(answers))))
    evaluation = Evaluation(split, samples, len(samples), len(dataset.left_out), scores)
    with reopen(ref) as run:
        log_evaluation(
            run,
            trained,
            data,
            evaluation,
            trained.recipe.search,
            predictions=name,
            changed=changed_settings(trained, data, tokenizer),
        )
    return evaluation
