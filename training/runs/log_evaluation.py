"""Log an evaluation to its run: scores, every example, samples and plots."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from intertitle.training.config.metrics import METRICS, metric_task
from intertitle.training.config.sections import SearchConfig
from intertitle.training.data.data_ref import Data
from intertitle.training.data.item_views import ItemView, thumbnails_of
from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.metrics.metric_tokenizer import choose_tokenizer
from intertitle.training.evaluation.metrics.sufficient_stats import combine
from intertitle.training.evaluation.record import (
    EVALUATIONS,
    EvaluationRecord,
    read_record,
    write_record,
)
from intertitle.training.evaluation.sample import Sample
from intertitle.training.inference.attention_maps import explain_samples
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.reports.plots import (
    confusion_matrix,
    length_histogram,
    score_histogram,
    timelines,
)
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.run_list import score_tags

CONFUSION_FILE = "confusion.json"
# Number of samples in the table of samples, each with its image or frames.
NUM_SHOWN = 30
# Number of samples that have images of the attention weights, or of the labels over time.
NUM_EXPLAINED = 6


def log_evaluation(
    run: TrackedRun,
    trained: TrainedModel,
    data: Data,
    evaluation: Evaluation,
    search: SearchConfig,
    other_run_ids: Sequence[str] = (),
    predictions: str | None = None,
    changed: Mapping[str, str | int] | None = None,
) -> EvaluationRecord:
    """Log scores, every example and samples to a run, under a name of their own.

    The name contains the split and every search setting that differs from the run's recipe. Scores
    are tags, of which those of the newest evaluation of a kind remain, and a table; repeated
    evaluations of the same kind have a folder each.

    Args:
        run: run to log to.
        trained: model that was measured.
        data: data that it was measured on.
        evaluation: results.
        search: settings of the search.
        other_run_ids: ids of the other runs of an ensemble.
        predictions: name of the predictions that were measured, if they are not from the model.
        changed: results of `changed_settings`.

    Returns:
        The evaluation as it is stored.
    """
    prefix = EVALUATIONS
    if data.ref.corpus_fingerprint != trained.data.corpus_fingerprint:
        prefix += f"/corpus_{data.ref.corpus_fingerprint[:8]}"
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
        data.ref.target_language,
    )
    run.tags(score_tags(prefix, scores.values))
    description = {
        "split": evaluation.split,
        "task": metric_task(trained.task),
        "num_examples": evaluation.num_examples,
        "num_left_out": evaluation.num_left_out,
        "data": data.ref.facts(),
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
        record = read_record(Path(folder))
        if evaluation.confusion is not None:
            confusion = json.dumps(evaluation.confusion.to_json())
            (Path(folder) / CONFUSION_FILE).write_text(confusion, "utf-8")
        views: Mapping[str, ItemView] = {}
        if predictions is None:
            # The number of an example is the index of its sample.
            explained = {
                n: evaluation.samples[n] for n in _spread(_shown_indices(evaluation), NUM_EXPLAINED)
            }
            views = explain_samples(trained, data, search, explained, Path(folder) / "attention")
        run.folder(Path(folder), stamp)
    run.table(f"{stamp}/scores", [*score_rows(evaluation)])
    run.table(f"{stamp}/samples", sample_rows(evaluation, data, views))
    if evaluation.confusion is not None:
        run.figure(f"{stamp}/confusion", confusion_matrix(evaluation.confusion))
    if trained.task.output == "label_per_frame":
        drawn = _spread(range(len(evaluation.samples)), NUM_EXPLAINED)
        run.figure(f"{stamp}/timelines", timelines([evaluation.samples[n] for n in drawn]))
    if trained.task.output != "sentence":
        return record
    hypotheses = [sample.hypothesis for sample in evaluation.samples]
    references = [sample.references for sample in evaluation.samples]
    run.figure(f"{stamp}/lengths", length_histogram(hypotheses, references, tokenizer))
    metric_scores = {
        name: combine(name, scores.statistics[name]).tolist()
        for name in scores.values
        if METRICS.load(name, "metric").histogram
    }
    run.figure(f"{stamp}/scores", score_histogram(metric_scores))
    return record


def _metric_safe(name: str) -> str:
    """Replace the characters that MLflow does not allow in the name of a metric."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)[:80]


def score_rows(evaluation: Evaluation) -> Iterator[dict[str, object]]:
    """Yield the scores of an evaluation as rows of a table."""
    for name, value in evaluation.scores.values.items():
        yield {
            "metric": name,
            "score": round(value, 4),
            "computed": evaluation.scores.signatures[name],
        }


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


def sample_rows(
    evaluation: Evaluation, data: Data, views: Mapping[str, ItemView]
) -> list[dict[str, object]]:
    """Return some samples of an evaluation, spread over the split, with images if there are any.

    Args:
        evaluation: results on a split.
        data: data of the split.
        views: items that are already decoded, by key.
    """
    if evaluation.texts:
        return [sample_row(text) for text in evaluation.texts]
    selected = [evaluation.samples[n] for n in _shown_indices(evaluation)]
    keys = [sample.item_key for sample in selected if sample.item_key is not None]
    thumbnails = thumbnails_of(data.corpus, keys, views) if keys else {}
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
