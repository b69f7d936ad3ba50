"""Inputs that belong to no corpus, in the form that models take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.errors import FileError
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.data_ref import as_in_corpus
from intertitle.training.data.truncation import describe_cut
from intertitle.training.data.vocab import Vocabs
from intertitle.training.inference.model_bundle import TrainedModel


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
    warnings = describe_cut(encoded, max_tokens, "texts", "source_tokenizer")
    return [ids[:max_tokens] for ids in encoded], warnings
