"""Answers to what a person asks: about files or a whole corpus, questions about them, sentences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import FileError, UserError, one_line
from training.data.dataset import Dataset, Items, open_dataset
from training.data.source import DEFAULT_READING, DataSource, Reading, feature_maker
from training.evaluation.evaluate import (
    ANSWER_BATCH,
    Answer,
    Progress,
    Questions,
    quiet,
    rank_answers,
    write_texts,
)
from training.evaluation.rescoring import rescore
from training.models.generator import Generator
from training.predictions import Failure, Prediction
from training.questions import Inputs, read
from training.trained import TrainedModel

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked.

    Attributes:
        questions: by number.
        ids: of each: an example's id, an item's key, a file's path, or the text that is read.
        left_out: the ids of what is not asked about, for its item is in quarantine.
        warnings: of texts that were cut.
    """

    questions: Questions
    ids: Sequence[str]
    left_out: Sequence[str] = ()
    warnings: tuple[str, ...] = ()


def ask(
    trained: TrainedModel,
    files: Sequence[Path] = (),
    texts: Sequence[str] = (),
    reading: Reading = DEFAULT_READING,
) -> Asked:
    """Ask about what no corpus holds. A file is opened when the model looks at it.

    Args:
        trained: that is asked.
        files: videos and images, for a task that sees.
        texts: for a task that reads: sentences, or one question about all of the files.
        reading: how the files are read.

    Raises:
        UserError: something that the task needs is missing or of no use to it.
    """
    _check_given(trained, "FILE", bool(files), trained.task.sees != "nothing")
    _check_given(trained, "--text or --question", bool(texts), trained.task.reads)
    if files and len(texts) > 1:
        raise UserError(f"--question: {len(texts)} of them, allowed: one about all files")
    sources, warnings = read(trained, texts)
    if not files:
        return Asked(Inputs(trained, sources), list(texts), warnings=warnings)
    assert trained.data.features is not None
    features = feature_maker(trained.data.features, reading)
    inputs = Inputs(trained, (sources or [[]]) * len(files), lambda n: features(files[n]))
    # A name that is not UTF-8 is told as one that can be written.
    ids = [str(f).encode("utf-8", "backslashreplace").decode() for f in files]
    return Asked(inputs, ids, warnings=warnings)


def _check_given(trained: TrainedModel, what: str, is_given: bool, is_wanted: bool) -> None:
    name = trained.recipe.name
    if is_given and not is_wanted:
        raise UserError(f"{what}: of no use to {name}, which does not read it")
    if is_wanted and not is_given:
        raise UserError(f"{what}: missing, and {name} reads it")


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
    ids = [example.id for example in dataset.examples]
    return Asked(dataset, ids, dataset.left_out, dataset.warnings)


def ask_items(trained: TrainedModel, data: DataSource, question: str | None) -> Asked:
    """Ask about every item of a corpus that has features, whether or not anything is said of it.

    Args:
        trained: that is asked.
        data: the corpus and the features.
        question: about all of them, for a task that reads.

    Raises:
        UserError: as of `ask`; features of another make than the model's, or none of an item.
    """
    texts = [] if question is None else [question]
    _check_given(trained, "--corpus", True, trained.task.sees != "nothing")
    _check_given(trained, "--question", bool(texts), trained.task.reads)
    features = trained.wanting(data).features
    assert features is not None
    items = Items(data.corpus, features)
    sources, warnings = read(trained, texts)
    inputs = Inputs(trained, (sources or [[]]) * len(items.keys), items.features, items.num_frames)
    return Asked(inputs, items.keys, items.left_out, warnings)


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
        UserError: as of `ask` and `tell`.
        FileError: a file can't be read.
    """
    told = []
    for one in predict_each(trained, files, texts, nbest=nbest, on_progress=on_progress):
        if isinstance(one, Failure):
            raise FileError(one.error, one.message)
        told.append(one)
    return told


def predict_each(
    trained: TrainedModel,
    files: Sequence[Path] = (),
    texts: Sequence[str] = (),
    *,
    reading: Reading = DEFAULT_READING,
    nbest: int = 1,
    on_progress: Progress = quiet,
    on_warning: Callable[[str], None] = _log.warning,
) -> Iterator[Prediction | Failure]:
    """As `predict`, in the order asked, with a failure in the place of each file that can't be
    read. A text without a token, such as an empty line, has an empty answer.

    Args:
        trained: see `predict`.
        files: see `predict`.
        texts: see `predict`.
        reading: how the files are read.
        nbest: see `predict`.
        on_progress: see `predict`.
        on_warning: told of texts that were cut.

    Raises:
        UserError: as of `ask` and `tell`.
    """
    _check_nbest(trained, nbest)
    asked = ask(trained, files, texts, reading)
    for warning in asked.warnings:
        on_warning(warning)
    if trained.task.tells == "stream":
        assert isinstance(trained.model, Generator)
        written = write_texts(trained.model, trained.vocabularies.target, trained.recipe.search)
        yield from (Prediction("", 1, sample.score, sample.hypothesis) for sample in written)
        return
    assert isinstance(asked.questions, Inputs)
    if not files:
        sources = asked.questions.sources
        numbers = [n for n, ids in enumerate(sources) if ids]
        answers = _tell_each(trained, asked.questions, numbers, nbest, on_progress)
        for n, id in enumerate(asked.ids):
            yield from _predictions(id, answers.get(n, [Answer(("",), 0.0)]))
        return
    for at in range(0, len(files), ANSWER_BATCH):
        # What a batch of files show is in memory, no more.
        some = range(at, min(at + ANSWER_BATCH, len(files)))
        inputs, failed = asked.questions.looked_at(some)
        told = _tell_each(trained, inputs, [n for n in some if n not in failed], nbest)
        for n in some:
            if n in failed:
                yield Failure(asked.ids[n], failed[n].error, one_line(str(failed[n])))
            else:
                yield from _predictions(asked.ids[n], told[n])
        on_progress(some.stop, len(files))


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
    told = _tell_each(trained, asked.questions, numbers, nbest, on_progress)
    return [one for n in numbers for one in _predictions(asked.ids[n], told[n])]


def _check_nbest(trained: TrainedModel, nbest: int) -> None:
    one = {"label_per_frame": "a label a frame", "stream": "a text"}.get(trained.task.tells)
    if nbest > 1 and one is not None:
        raise UserError(f"--nbest: {nbest}, allowed: 1 for {trained.recipe.name}: {one}")


def _tell_each(
    trained: TrainedModel,
    questions: Questions,
    numbers: Sequence[int],
    nbest: int,
    on_progress: Progress = quiet,
) -> dict[int, list[Answer]]:
    """Answers by number, best first."""
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


def ask_of(
    trained: TrainedModel, candidates: Sequence[Prediction], reading: Reading = DEFAULT_READING
) -> Asked:
    """Ask about what the ids of some candidates name: files, or sentences.

    Raises:
        UserError: as of `ask`.
    """
    ids = list(dict.fromkeys(candidate.id for candidate in candidates))
    if trained.task.sees == "nothing":
        return ask(trained, texts=ids)
    return replace(ask(trained, [Path(one) for one in ids], reading=reading), ids=ids)


def rank_anew(
    trained: TrainedModel, asked: Asked, candidates: Sequence[Prediction], weight: float
) -> list[Prediction]:
    """Rank candidates by what a model thinks of them; see `rescore`.

    Args:
        trained: the model.
        asked: what they are about.
        candidates: to rank; those about what is left out are left out too.
        weight: of the score that they have, 0..1.

    Raises:
        UserError: a model that writes no sentences, or an id that is not asked about.
    """
    model = trained.model
    if trained.task.tells != "sentence" or not isinstance(model, Generator):
        raise UserError(f"--rescore: of no use to {trained.recipe.name}: it writes no sentences")
    left_out = frozenset(asked.left_out)
    return rescore(
        model,
        asked.questions,
        {name: n for n, name in enumerate(asked.ids)},
        [candidate for candidate in candidates if candidate.id not in left_out],
        length_penalty=trained.recipe.search.length_penalty,
        weight=weight,
    )
