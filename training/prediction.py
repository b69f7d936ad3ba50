"""Answers to what a person asks: about files, questions about them, sentences, or a whole split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import UserError
from training.data.batch import Batch, Row, make_batch
from training.data.dataset import Dataset, open_dataset
from training.data.source import DataSource, feature_maker
from training.evaluation.evaluate import Progress, Questions, quiet, rank_answers, write_texts
from training.evaluation.rescoring import rescore
from training.models.generator import Generator
from training.predictions import Prediction
from training.trained import TrainedModel


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked.

    Attributes:
        questions: by number.
        ids: of each: an example's id, a file's path, or the text that is read.
    """

    questions: Questions
    ids: Sequence[str]


def ask(trained: TrainedModel, files: Sequence[Path] = (), texts: Sequence[str] = ()) -> Asked:
    """Ask about what no corpus holds.

    Args:
        trained: that is asked.
        files: videos and images, for a task that sees.
        texts: for a task that reads: sentences, or one question about all of the files.

    Raises:
        UserError: something that the task needs is missing or of no use to it.
    """
    task, name = trained.task, trained.recipe.name
    for has, wants, what in (
        (bool(files), task.sees != "nothing", "FILE"),
        (bool(texts), task.reads, "--text or --question"),
    ):
        if has and not wants:
            raise UserError(f"{what}: of no use to {name}, which does not read it")
        if wants and not has:
            raise UserError(f"{what}: missing, and {name} reads it")
    if files and len(texts) > 1:
        raise UserError(f"--question: {len(texts)} of them, allowed: one about all files")
    return Asked(_Inputs(trained, files, texts), [str(file) for file in files] or list(texts))


class _Inputs:
    """Files, each with the one text, or texts alone, as questions."""

    def __init__(self, trained: TrainedModel, files: Sequence[Path], texts: Sequence[str]) -> None:
        self.vocabularies = trained.vocabularies
        source, most = self.vocabularies.source, trained.recipe.source_tokenizer.max_tokens
        encoded = source.encode_all(list(texts)) if source else []
        self._sources = [ids[:most] for ids in encoded]
        self._files = list(files)
        self._sentences = trained.task.tells == "sentence"
        seen = trained.data.features
        self._features = feature_maker(seen) if seen else None

    def question_length(self, example: int) -> int:
        # How many frames a file has is only known when it is read.
        return len(self._source(example))

    def with_targets(self, rows: Sequence[tuple[int, Sequence[int]]]) -> Batch:
        seen = {}
        if self._features:
            seen = {n: self._features(self._files[n]) for n in dict(rows)}
        return make_batch(
            [Row(seen.get(n), self._source(n), ids) for n, ids in rows], sentences=self._sentences
        )

    def _source(self, example: int) -> Sequence[int]:
        if not self._sources:
            return ()
        return self._sources[0 if self._files else example]


def ask_split(trained: TrainedModel, data: DataSource, split: str) -> Asked:
    """Ask about the examples of a split that have what they need.

    Raises:
        UserError: no such split, features of another make than the model's, or running text.
    """
    if trained.task.tells == "stream":
        name = trained.recipe.name
        raise UserError(f"--split: {split!r}, allowed: none for {name}, which writes of itself")
    recipe, task = trained.recipe, trained.task
    dataset = open_dataset(trained.wanting(data), split, recipe, task, trained.vocabularies)
    assert isinstance(dataset, Dataset)
    return Asked(dataset, [example.id for example in dataset.examples])


def predict(
    trained: TrainedModel,
    files: Sequence[Path] = (),
    texts: Sequence[str] = (),
    *,
    nbest: int = 1,
    on_progress: Progress = quiet,
) -> list[Prediction]:
    """Tell what a model's task is about.

    Args:
        trained: the model.
        files: see `ask`.
        texts: see `ask`.
        nbest: predictions an input at most.
        on_progress: told how many inputs are done, of how many.

    Raises:
        UserError: as of `ask` and `tell`, or a file can't be decoded.
    """
    asked = ask(trained, files, texts)
    if trained.task.tells == "stream":
        assert isinstance(trained.model, Generator)
        written = write_texts(trained.model, trained.vocabularies.target, trained.recipe.search)
        return [Prediction("", 1, sample.score, sample.hypothesis) for sample in written]
    return tell(trained, asked, range(len(asked.ids)), nbest, on_progress)


def tell(
    trained: TrainedModel,
    asked: Asked,
    numbers: Sequence[int],
    nbest: int = 1,
    on_progress: Progress = quiet,
) -> list[Prediction]:
    """Answer some of what is asked.

    Args:
        trained: the model.
        asked: all of it.
        numbers: of the questions to answer.
        nbest: predictions a question at most.
        on_progress: told how many are done, of how many.

    Raises:
        UserError: of the labels of frames there is only one list, or the model can't be searched
            so.
    """
    if nbest > 1 and trained.task.tells == "label_per_frame":
        raise UserError(f"--nbest: {nbest}, allowed: 1 for {trained.recipe.name}: a label a frame")
    ranked = rank_answers(
        trained.model, asked.questions, numbers, trained.recipe.search, nbest, on_progress
    )
    return [
        Prediction(asked.ids[n], rank, answer.score, " | ".join(answer.texts))
        for n, answers in zip(numbers, ranked, strict=True)
        for rank, answer in enumerate(answers, start=1)
    ]


def ask_of(trained: TrainedModel, candidates: Sequence[Prediction]) -> Asked:
    """Ask about what the ids of some candidates name: files, or sentences.

    Raises:
        UserError: as of `ask`.
    """
    ids = list(dict.fromkeys(candidate.id for candidate in candidates))
    if trained.task.sees == "nothing":
        return ask(trained, texts=ids)
    return replace(ask(trained, [Path(one) for one in ids]), ids=ids)


def rank_anew(
    trained: TrainedModel, asked: Asked, candidates: Sequence[Prediction], weight: float
) -> list[Prediction]:
    """Rank candidates by what a model thinks of them; see `rescore`.

    Args:
        trained: the model.
        asked: what they are about.
        candidates: to rank.
        weight: of the score that they have, 0..1.

    Raises:
        UserError: a model that writes no sentences, or an id that is not asked about.
    """
    model = trained.model
    if trained.task.tells != "sentence" or not isinstance(model, Generator):
        raise UserError(f"--rescore: of no use to {trained.recipe.name}: it writes no sentences")
    return rescore(
        model,
        asked.questions,
        {name: n for n, name in enumerate(asked.ids)},
        candidates,
        length_penalty=trained.recipe.search.length_penalty,
        weight=weight,
    )
