"""Inputs to predict: files, texts, the examples of a split or the items of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.errors import FileError, UserError
from intertitle.training.data.arrays.ragged import describe_cut
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.data_ref import Data
from intertitle.training.data.dataset import Dataset, Items, open_dataset
from intertitle.training.data.item_views import DEFAULT_READING, Reading, feature_extractor
from intertitle.training.data.texts import as_in_corpus
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.answers import Questions
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.prediction_io import Prediction


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Visual and text inputs of a model, as `Questions`.

    Attributes:
        trained: model that predicts.
        sources: source token ids of each input, see `read_queries`.
        load_features: function from the number of an input to its features, float32, [T, D] or
            [T, cells, D], or None.
        num_frames: function from the number of an input to its number of frames T, or to 0 if T is
            not known before the features are loaded.
    """

    trained: TrainedModel
    sources: Sequence[Sequence[int]]
    load_features: Callable[[int], NDArray[np.float32] | None] = lambda _: None
    num_frames: Callable[[int], int] = lambda _: 0

    @property
    def vocabularies(self) -> Vocabs:
        """Vocabularies of the source and target texts."""
        return self.trained.vocabularies

    def question_length(self, example: int) -> int:
        """Return the number of source tokens plus the number of frames, where it is known."""
        return self.num_frames(example) + len(self.sources[example])

    def with_features(self, numbers: Sequence[int]) -> tuple[Self, dict[int, FileError]]:
        """Load the features of some inputs; return a copy with these features, and read errors."""
        features, failed = {}, {}
        for n in numbers:
            try:
                features[n] = self.load_features(n)
            except FileError as error:
                failed[n] = error
        return replace(self, load_features=features.__getitem__), failed

    def with_targets(self, rows: Sequence[tuple[int, Sequence[int]]]) -> Batch:
        """Build a batch of inputs with targets, see `Questions`."""
        features = {n: self.load_features(n) for n in dict(rows)}
        return make_batch(
            [Row(features[n], self.sources[n], ids) for n, ids in rows],
            sentences=self.trained.task.output == "sentence",
        )


def read_queries(
    trained: TrainedModel, texts: Sequence[str]
) -> tuple[list[list[int]], tuple[str, ...]]:
    """Tokenize texts as sources of a model.

    Returns:
        The token ids of each text, and a warning if some texts were truncated; both are empty for
        a model that reads no source.
    """
    source, max_tokens = trained.vocabularies.source, trained.recipe.source_tokenizer.max_tokens
    if source is None:
        return [], ()
    encoded = source.encode_all([as_in_corpus(text) for text in texts])
    warnings = describe_cut([*map(len, encoded)], max_tokens, "texts", "source_tokenizer")
    return [ids[:max_tokens] for ids in encoded], warnings


@dataclass(frozen=True, slots=True)
class PredictionInputs:
    """Inputs to predict.

    Attributes:
        questions: inputs by number.
        ids: id of each input: the id of an example, the key of an item, the path of a file, or the
            source text.
        left_out: ids of inputs that are left out because their item is in quarantine.
        warnings: warnings about truncated texts.
    """

    questions: Questions
    ids: Sequence[str]
    left_out: Sequence[str] = ()
    warnings: tuple[str, ...] = ()


def build_inputs(
    trained: TrainedModel,
    files: Sequence[Path] = (),
    texts: Sequence[str] = (),
    reading: Reading = DEFAULT_READING,
) -> PredictionInputs:
    """Build inputs from files and texts. A file is opened when its features are needed.

    Args:
        trained: model that predicts.
        files: videos and images, for a task with visual input.
        texts: source texts, for a task that reads text; one question about all files if there are
            files.
        reading: options for decoding the files.

    Raises:
        UserError: an input that the task needs is missing, or the task does not use an input.
    """
    _check_given(trained, "FILE", bool(files), trained.task.visual_input != "nothing")
    _check_given(trained, "--text or --question", bool(texts), trained.task.has_source)
    if files and len(texts) > 1:
        raise UserError(f"--question: {len(texts)} of them, allowed: one about all files")
    sources, warnings = read_queries(trained, texts)
    if not files:
        return PredictionInputs(QuerySet(trained, sources), list(texts), warnings=warnings)
    features = feature_extractor(trained.data.features, reading)
    inputs = QuerySet(trained, (sources or [[]]) * len(files), lambda n: features(files[n]))
    # A file name that is not UTF-8 is escaped, so that it can be written.
    ids = [str(f).encode("utf-8", "backslashreplace").decode() for f in files]
    return PredictionInputs(inputs, ids, warnings=warnings)


def _check_given(trained: TrainedModel, option: str, is_given: bool, is_wanted: bool) -> None:
    name = trained.recipe.name
    if is_given and not is_wanted:
        raise UserError(f"{option}: of no use to {name}, which does not read it")
    if is_wanted and not is_given:
        raise UserError(f"{option}: missing, and {name} reads it")


def build_split_inputs(trained: TrainedModel, data: Data, split: str) -> PredictionInputs:
    """Build inputs from the examples of a split that have all data that they need.

    Raises:
        UserError: the split does not exist, its features have another fingerprint than the model's,
            or the model generates running text.
    """
    if trained.task.output == "stream":
        name = trained.recipe.name
        raise UserError(f"--split: {split!r}, allowed: none for {name}, which writes of itself")
    recipe, task = trained.recipe, trained.task
    trained.check_features(data)
    dataset = open_dataset(data, split, recipe, task, trained.vocabularies)
    assert isinstance(dataset, Dataset)
    ids = [example.id for example in dataset.examples]
    return PredictionInputs(dataset, ids, dataset.left_out, dataset.warnings)


def build_item_inputs(trained: TrainedModel, data: Data, question: str | None) -> PredictionInputs:
    """Build inputs from every item of a corpus that has features, with or without annotations.

    Args:
        trained: model that predicts.
        data: corpus and features.
        question: question about every item, for a task that reads text.

    Raises:
        UserError: an input is missing or not used (see `build_inputs`), the features have another
            fingerprint than the model's, or an item has none.
    """
    texts = [] if question is None else [question]
    _check_given(trained, "--corpus", True, trained.task.visual_input != "nothing")
    _check_given(trained, "--question", bool(texts), trained.task.has_source)
    trained.check_features(data)
    items = Items(data)
    sources, warnings = read_queries(trained, texts)
    inputs = QuerySet(
        trained, (sources or [[]]) * len(items.keys), items.features, items.num_frames
    )
    return PredictionInputs(inputs, items.keys, items.left_out, warnings)


def build_candidate_inputs(
    trained: TrainedModel, candidates: Sequence[Prediction], reading: Reading = DEFAULT_READING
) -> PredictionInputs:
    """Build inputs from the files or texts that the ids of candidates name.

    Raises:
        UserError: see `build_inputs`.
    """
    ids = list(dict.fromkeys(candidate.id for candidate in candidates))
    if trained.task.visual_input == "nothing":
        return build_inputs(trained, texts=ids)
    return replace(build_inputs(trained, [Path(file) for file in ids], reading=reading), ids=ids)
