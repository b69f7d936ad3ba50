"""Predict files, texts, questions about files, or a whole corpus with a trained model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from intertitle.pipeline.errors import FileError, UserError, one_line
from intertitle.training.data.item_views import DEFAULT_READING, Reading
from intertitle.training.evaluation.answers import (
    ANSWER_BATCH,
    Answer,
    Progress,
    Questions,
    no_progress,
    rank_answers,
)
from intertitle.training.evaluation.evaluate import sample_texts
from intertitle.training.inference.inputs import PredictionInputs, QuerySet, build_inputs
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.prediction_io import Failure, Prediction
from intertitle.training.inference.rescore import rescore_nbest
from intertitle.training.models.base import Generator
from intertitle.training.models.captioners.novelty import far_features

_log = logging.getLogger(__name__)


def predict(
    trained: TrainedModel,
    files: Sequence[Path] = (),
    texts: Sequence[str] = (),
    *,
    nbest: int = 1,
    on_progress: Progress = no_progress,
) -> list[Prediction]:
    """Predict files or texts.

    Args:
        trained: trained model.
        files: videos and images, see `build_inputs`.
        texts: texts, see `build_inputs`.
        nbest: maximum number of predictions per input.
        on_progress: callback for progress, called with the number of finished inputs and the total.

    Returns:
        Predictions in input order, the best of each input first.

    Raises:
        UserError: see `build_inputs` and `predict_batch`.
        FileError: a file can't be read.
    """
    predictions = []
    for prediction in iter_predictions(trained, files, texts, nbest=nbest, on_progress=on_progress):
        if isinstance(prediction, Failure):
            raise FileError(prediction.error, prediction.message)
        predictions.append(prediction)
    return predictions


def iter_predictions(
    trained: TrainedModel,
    files: Sequence[Path] = (),
    texts: Sequence[str] = (),
    *,
    reading: Reading = DEFAULT_READING,
    nbest: int = 1,
    on_progress: Progress = no_progress,
    on_warning: Callable[[str], None] = _log.warning,
) -> Iterator[Prediction | Failure]:
    """Iterate over the predictions of files or texts in input order.

    A file that can't be read gives a `Failure` in place of its predictions. A text without tokens,
    such as an empty line, gives an empty prediction.

    Args:
        trained: trained model.
        files: videos and images, see `build_inputs`.
        texts: texts, see `build_inputs`.
        reading: options for decoding the files.
        nbest: maximum number of predictions per input.
        on_progress: callback for progress, called with the number of finished inputs and the total.
        on_warning: callback for warnings about truncated texts, and about files that are unlike
            those that the model has learned from.

    Yields:
        Predictions, the best of each input first, or a failure.

    Raises:
        UserError: see `build_inputs` and `predict_batch`.
    """
    _check_nbest(trained, nbest)
    batch_inputs = build_inputs(trained, files, texts, reading)
    for warning in batch_inputs.warnings:
        on_warning(warning)
    if trained.task.output == "stream":
        assert isinstance(trained.model, Generator)
        written = sample_texts(trained.model, trained.vocabularies.target, trained.recipe.search)
        yield from (Prediction("", 1, sample.score, sample.hypothesis) for sample in written)
        return
    assert isinstance(batch_inputs.questions, QuerySet)
    if not files:
        sources = batch_inputs.questions.sources
        numbers = [n for n, ids in enumerate(sources) if ids]
        answers = _iter_predictions(trained, batch_inputs.questions, numbers, nbest, on_progress)
        for n, id in enumerate(batch_inputs.ids):
            yield from _predictions(id, answers.get(n, [Answer(("",), 0.0)]))
        return
    for at in range(0, len(files), ANSWER_BATCH):
        # Only the features of one batch of files are held in memory.
        chunk = range(at, min(at + ANSWER_BATCH, len(files)))
        inputs, failed = batch_inputs.questions.with_features(chunk)
        predicted = _iter_predictions(trained, inputs, [n for n in chunk if n not in failed], nbest)
        for n in chunk:
            if n in failed:
                yield Failure(batch_inputs.ids[n], failed[n].error, one_line(str(failed[n])))
            else:
                features = inputs.load_features(n)
                for warning in () if features is None else far_features(trained.model, features):
                    on_warning(f"{batch_inputs.ids[n]}: {warning}")
                yield from _predictions(batch_inputs.ids[n], predicted[n])
        on_progress(chunk.stop, len(files))


def predict_batch(
    trained: TrainedModel,
    inputs: PredictionInputs,
    numbers: Sequence[int],
    nbest: int = 1,
    on_progress: Progress = no_progress,
) -> list[Prediction]:
    """Predict some of the inputs.

    Args:
        trained: trained model.
        inputs: all inputs.
        numbers: numbers of the inputs to predict.
        nbest: maximum number of predictions per input.
        on_progress: callback for progress, called with the number of finished inputs and the total.

    Raises:
        UserError: `nbest` is larger than 1 for a task with a single output (labels of frames or
            running text), or the model does not support the search settings.
    """
    ranked = _iter_predictions(trained, inputs.questions, numbers, nbest, on_progress)
    return [prediction for n in numbers for prediction in _predictions(inputs.ids[n], ranked[n])]


def _check_nbest(trained: TrainedModel, nbest: int) -> None:
    only_output = {"label_per_frame": "a label a frame", "stream": "a text"}.get(
        trained.task.output
    )
    if nbest > 1 and only_output is not None:
        raise UserError(f"--nbest: {nbest}, allowed: 1 for {trained.recipe.name}: {only_output}")


def _iter_predictions(
    trained: TrainedModel,
    questions: Questions,
    numbers: Sequence[int],
    nbest: int,
    on_progress: Progress = no_progress,
) -> dict[int, list[Answer]]:
    """Return ranked answers by the number of the input, best first."""
    _check_nbest(trained, nbest)
    ranked = rank_answers(
        trained.model, questions, numbers, trained.recipe.search, nbest, on_progress
    )
    return dict(zip(numbers, ranked, strict=True))


def _predictions(id: str, answers: Sequence[Answer]) -> list[Prediction]:
    return [
        Prediction(id, rank, answer.score, " | ".join(answer.texts))
        for rank, answer in enumerate(answers, start=1)
    ]


def rescore_candidates(
    trained: TrainedModel, inputs: PredictionInputs, candidates: Sequence[Prediction], weight: float
) -> list[Prediction]:
    """Rescore candidates with a model, see `rescore_nbest`.

    Args:
        trained: trained model.
        inputs: inputs that the candidates belong to.
        candidates: candidates to rank; those of inputs that are left out are left out too.
        weight: weight of the candidates' own scores, 0..1.

    Raises:
        UserError: the model does not generate sentences, or an id is not among the inputs.
    """
    model = trained.model
    if trained.task.output != "sentence" or not isinstance(model, Generator):
        raise UserError(f"--rescore: of no use to {trained.recipe.name}: it writes no sentences")
    left_out = frozenset(inputs.left_out)
    return rescore_nbest(
        model,
        inputs.questions,
        {name: n for n, name in enumerate(inputs.ids)},
        [candidate for candidate in candidates if candidate.id not in left_out],
        length_penalty=trained.recipe.search.length_penalty,
        weight=weight,
    )
