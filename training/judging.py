"""Anyone's predictions of a split, measured as a model's own are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from upath import UPath

from pipeline.errors import UserError
from training.data.dataset import Dataset
from training.evaluation.evaluate import Answer, Evaluation, make_samples, make_scorer
from training.prediction import ask_split
from training.predictions import Prediction
from training.scoring import changed_settings, data_for, load_trained, log_evaluation
from training.tracking.run import RunRef, reopen

NOT_OF_A_MODEL = "the sentences are from a file, not of a model"


def evaluate_predictions(
    ref: RunRef,
    predictions: Sequence[Prediction],
    name: str,
    *,
    split: str,
    corpus: UPath | Path | None = None,
    features: UPath | Path | None = None,
    tokenizer: str | None = None,
) -> Evaluation:
    """Measure predictions by the references of a run's data, and add the scores to the run.

    Args:
        ref: the run.
        predictions: of each example one or several, of which the first by rank counts; those of
            examples whose item is in quarantine are passed over.
        name: what they are called.
        split: of the corpus.
        corpus: None is the one that the run was trained on.
        features: likewise.
        tokenizer: see `EvaluationConfig`; None is as in the recipe.

    Raises:
        UserError: an example without a prediction, a prediction of nothing that there is, no such
            split, or a run that tells no sentences.
    """
    trained = load_trained(ref)
    if trained.task.tells != "sentence":
        raise UserError(f"--predictions: of no use to {trained.recipe.name}: it tells no sentences")
    data = data_for(trained, corpus, features)
    asked = ask_split(trained, data, split)
    dataset, left_out = asked.questions, frozenset(asked.left_out)
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
    own = trained.recipe.evaluation.tokenizer
    scores = make_scorer(dataset, tokenizer or own).score(answers, quick=False)
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
