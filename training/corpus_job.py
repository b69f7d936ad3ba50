"""A whole corpus to be answered, by this process or by others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.data.source import DataSource
from training.prediction import Asked, ask_items, ask_split
from training.scoring import load_together
from training.tracking.run import RunRef
from training.trained import TrainedModel


@dataclass(frozen=True, slots=True)
class CorpusJob:
    """What is to be answered.

    Attributes:
        runs: that tell, together if they are several.
        search: fields of `SearchConfig`; None is as in the first's recipe.
        data: the corpus and the features.
        split: whose examples are asked about; None: every item, whatever is said of it.
        question: about every item.
        nbest: predictions of each at most.
        max_source_tokens: a longer source is cut; None: as in the first's recipe.
    """

    runs: tuple[RunRef, ...]
    search: dict[str, Any]
    data: DataSource
    split: str | None
    question: str | None = None
    nbest: int = 1
    max_source_tokens: int | None = None

    def load(self) -> TrainedModel:
        """The model."""
        trained = load_together(self.runs).searching(**self.search)
        return trained.reading(self.max_source_tokens)

    def ask(self, trained: TrainedModel) -> Asked:
        """The questions.

        Raises:
            UserError: as of `ask_split` and `ask_items`.
        """
        if self.split is not None:
            return ask_split(trained, self.data, self.split)
        return ask_items(trained, self.data, self.question)
