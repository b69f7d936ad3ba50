"""Description of a batch inference job, which any process can load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intertitle.training.data.data_ref import Data
from intertitle.training.inference.inputs import (
    PredictionInputs,
    build_item_inputs,
    build_split_inputs,
)
from intertitle.training.inference.model_bundle import TrainedModel, load_ensemble
from intertitle.training.tracking.store.client import RunRef


@dataclass(frozen=True, slots=True)
class CorpusJob:
    """Batch inference job over a corpus.

    Attributes:
        runs: runs whose models predict, as an ensemble if there are several.
        search: fields of `SearchConfig`; None keeps the value of the first run's recipe.
        data: corpus and features.
        split: split whose examples are predicted; None means every item of the corpus, whether or
            not it has annotations.
        question: question about every item, for a task that reads text.
        nbest: maximum number of predictions per input.
        max_source_tokens: maximum length of a source, longer ones are truncated; None keeps the
            value of the first run's recipe.
    """

    runs: tuple[RunRef, ...]
    search: dict[str, Any]
    data: Data
    split: str | None
    question: str | None = None
    nbest: int = 1
    max_source_tokens: int | None = None

    def load(self) -> TrainedModel:
        """Load the model or ensemble with the search settings of the job."""
        trained = load_ensemble(self.runs).with_search(**self.search)
        return trained.reading(self.max_source_tokens)

    def build_inputs(self, trained: TrainedModel) -> PredictionInputs:
        """Build the inputs of the job.

        Raises:
            UserError: see `build_split_inputs` and `build_item_inputs`.
        """
        if self.split is not None:
            return build_split_inputs(trained, self.data, self.split)
        return build_item_inputs(trained, self.data, self.question)
