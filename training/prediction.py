"""Answers to what no corpus holds: files, questions about them, sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from training.data.batch import Row, make_batch
from training.data.source import feature_maker
from training.evaluation.evaluate import answer_batch, write_texts
from training.models.generator import Generator
from training.trained import TrainedModel


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model tells of one input.

    Attributes:
        input: a file's path, or the text that was read; "" where a model writes of itself.
        text: a sentence, a label, or the labels of frames joined by " | ".
        score: see `Answer.score`.
    """

    input: str
    text: str
    score: float


def predict(
    trained: TrainedModel,
    files: Sequence[Path] = (),
    text: str | None = None,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Prediction]:
    """Tell what a model's task is about.

    Args:
        trained: the model.
        files: videos and images, for a task that sees.
        text: the question or the sentence, for a task that reads.
        on_progress: told how many are done, of how many.

    Raises:
        UserError: something that the task needs is missing or of no use to it, or a file can't be
            decoded.
    """
    task, name = trained.task, trained.recipe.name
    sees = task.sees != "nothing"
    for has, wants, what in (
        (bool(files), sees, "FILE"),
        (text is not None, task.reads, "--text or --question"),
    ):
        if has and not wants:
            raise UserError(f"{what}: of no use to {name}, which does not read it")
        if wants and not has:
            raise UserError(f"{what}: missing, and {name} reads it")
    if task.tells == "stream":
        assert isinstance(trained.model, Generator)
        written = write_texts(trained.model, trained.vocabularies.target, trained.recipe.search)
        return [Prediction("", sample.hypothesis, sample.score) for sample in written]
    source: list[int] = []
    if trained.vocabularies.source is not None and text is not None:
        most = trained.recipe.source_tokenizer.max_tokens
        source = trained.vocabularies.source.encode(text)[:most]
    make = feature_maker(trained.data.features) if trained.data.features else None
    inputs = files if make else [None]
    told: list[Prediction] = []
    for file in inputs:
        features = make(file) if make and file else None
        batch = make_batch([Row(features, source)], sentences=task.tells == "sentence")
        (answer,) = answer_batch(
            trained.model, batch, trained.vocabularies.target, trained.recipe.search, [len(told)]
        )
        told.append(Prediction(str(file or text), " | ".join(answer.texts), answer.score))
        on_progress(len(told), len(inputs))
    return told
