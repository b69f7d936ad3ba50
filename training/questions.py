"""Questions about what no corpus holds, as a model takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import FileError
from training.data.batch import Batch, Row, make_batch
from training.data.cutting import describe_cut
from training.data.source import as_in_corpus
from training.data.vocabularies import Vocabularies
from training.trained import TrainedModel


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model looks at and reads, as questions.

    Attributes:
        trained: the model that is asked.
        sources: the tokens that it reads of each, see `read`.
        look: from a question's number to what it sees, [T, D] or [T, cells, D], or None.
        num_frames: T of it, where that is known before it is looked at.
    """

    trained: TrainedModel
    sources: Sequence[Sequence[int]]
    look: Callable[[int], NDArray[np.float32] | None] = lambda _: None
    num_frames: Callable[[int], int] = lambda _: 0

    @property
    def vocabularies(self) -> Vocabularies:
        """Of the texts."""
        return self.trained.vocabularies

    def question_length(self, example: int) -> int:
        """Source tokens, and frames that are known."""
        return self.num_frames(example) + len(self.sources[example])

    def looked_at(self, numbers: Sequence[int]) -> tuple[Self, dict[int, FileError]]:
        """The same with what some of them show at hand, and why the others can't be read."""
        seen, failed = {}, {}
        for n in numbers:
            try:
                seen[n] = self.look(n)
            except FileError as error:
                failed[n] = error
        return replace(self, look=seen.__getitem__), failed

    def with_targets(self, rows: Sequence[tuple[int, Sequence[int]]]) -> Batch:
        """See `Questions`."""
        seen = {n: self.look(n) for n in dict(rows)}
        return make_batch(
            [Row(seen[n], self.sources[n], ids) for n, ids in rows],
            sentences=self.trained.task.tells == "sentence",
        )


def read(trained: TrainedModel, texts: Sequence[str]) -> tuple[list[list[int]], tuple[str, ...]]:
    """The tokens of some texts as a model reads them; none where it reads nothing.

    Returns:
        The tokens, and a warning if some of the texts were cut.
    """
    source, most = trained.vocabularies.source, trained.recipe.source_tokenizer.max_tokens
    if source is None:
        return [], ()
    encoded = source.encode_all([as_in_corpus(text) for text in texts])
    warnings = describe_cut(encoded, most, "texts", "source_tokenizer")
    return [ids[:most] for ids in encoded], warnings
