"""Measure predictions from a file against the references of a run's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.training.data.data_ref import StorePaths
from intertitle.training.data.dataset import Dataset
from intertitle.training.evaluation.answers import Answer, make_samples
from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.scorers import make_scorer
from intertitle.training.inference.inputs import build_split_inputs
from intertitle.training.inference.model_bundle import data_for, load_trained
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.runs.evaluate_run import (
    changed_settings,
    metric_settings,
    resolve_slices,
    with_slices,
)
from intertitle.training.runs.log_evaluation import log_evaluation
from intertitle.training.tracking.run import reopen
from intertitle.training.tracking.store.client import RunRef

NOT_OF_A_MODEL = "the sentences are from a file, not of a model"


def score_predictions(
    ref: RunRef,
    predictions: Sequence[Prediction],
    name: str,
    *,
    split: str,
    corpus: UPath | Path | None = None,
    features: StorePaths = None,
    tokenizer: str | None = None,
    by: Sequence[str] = (),
) -> Evaluation:
    """Measure predictions against the references of a run's data, and log the scores to the run.

    Args:
        ref: run whose data has the references.
        predictions: one or more predictions for each example, of which the first by rank counts;
            those for examples whose item is in quarantine are skipped.
        name: name of the predictions.
        split: name of a split of the corpus.
        corpus: folder or URL of a corpus; None uses the one that the model was trained on.
        features: feature stores; None uses those that the model was trained on.
        tokenizer: name of a metric tokenizer, see `EvaluationConfig`; None uses that of the recipe.
        by: slices that are scored, too; see `evaluation.slices.slice_values`.

    Raises:
        UserError: an example has no prediction, a prediction has an unknown id, the split does not
            exist, there is no such slice, or the run's model does not generate sentences.
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
    metrics = metric_settings(trained.recipe, tokenizer)
    values = resolve_slices(dataset, data, by, metrics.tokenizer)
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
    scores = make_scorer(dataset, metrics).score_answers(answers, quick=False)
    of_the_model = dict.fromkeys(("nats_per_token", "perplexity", "search_errors"), NOT_OF_A_MODEL)
    scores = replace(scores, not_measured=scores.not_measured | of_the_model)
    samples = tuple(make_samples(dataset, dict(enumerate(answers))))
    evaluation = Evaluation(split, samples, len(samples), len(dataset.left_out), scores)
    evaluation = with_slices(evaluation, values)
    with reopen(ref) as run:
        log_evaluation(
            run,
            trained,
            data,
            evaluation,
            trained.recipe.search,
            predictions=name,
            changed=changed_settings(trained, data.ref, tokenizer),
        )
    return evaluation
