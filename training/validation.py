"""How good a model is on the validation split, measured by all workers together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from training.config import Recipe, SearchConfig
from training.data.dataset import Dataset, make_sampler
from training.data.sampler import Rows, shares
from training.data.stream import StreamDataset
from training.data.tokenizer import Tokenizer
from training.evaluation.evaluate import (
    Scorer,
    answer_examples,
    make_samples,
    make_scorer,
    write_texts,
)
from training.evaluation.likelihood import surprise
from training.evaluation.sample import Sample
from training.evaluation.statistics import score_of
from training.models.generator import Generator, Model
from training.ranks import Ranks
from training.watchdog import Pulse, Stage

NUM_SAMPLES = 8


class Validator:
    """Measures models on one split.

    Args:
        recipe: of the training.
        dataset: the split.
        tokenizer: of what is told.
        ranks: this worker among its fellows.
        pulse: told of progress.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset | StreamDataset,
        tokenizer: Tokenizer,
        ranks: Ranks,
        pulse: Pulse,
    ) -> None:
        self._recipe, self._dataset = recipe, dataset
        self._tokenizer, self._ranks, self._pulse = tokenizer, ranks, pulse
        self._scorer: Scorer | None = None

    def measure(self, model: Model) -> tuple[dict[str, float], tuple[Sample, ...]]:
        """Figures by name, and some samples; the same on every worker.

        Args:
            model: in evaluation mode.
        """
        told = self._surprise(model)
        nats = score_of("nats_per_token", told)
        if not math.isfinite(nats):
            # Nothing can be searched with it; the loop says what has happened.
            return {"nats_per_token": nats}, ()
        dataset = self._dataset
        if isinstance(dataset, StreamDataset):
            assert isinstance(model, Generator)
            texts = write_texts(model, self._tokenizer, self._recipe.search)
            perplexity = score_of("perplexity", told)
            return {"nats_per_token": nats, "perplexity": perplexity}, _some(texts)
        mine = range(len(dataset.examples))[self._ranks.rank :: self._ranks.world_size]
        search = SearchConfig(beam_size=1, max_tokens=self._recipe.search.max_tokens)
        found = answer_examples(model, dataset, mine, search, lambda *_: self._pulse.beat())
        self._pulse.enter(Stage.MEASURED)
        parts = self._ranks.gather(dict(zip(mine, found, strict=True)))
        self._pulse.enter(Stage.MEASURING)
        scored: tuple[dict[str, float], tuple[Sample, ...]] | None = None
        if self._ranks.rank == 0:
            answers = {n: answer for part in parts for n, answer in part.items()}
            self._scorer = self._scorer or make_scorer(dataset, self._recipe.evaluation.tokenizer)
            scores = self._scorer.score([answers[n] for n in sorted(answers)], quick=True)
            scored = (scores.values, _some(make_samples(dataset, answers)))
        scored = self._ranks.from_first(scored)
        assert scored is not None
        return {"nats_per_token": nats} | scored[0], scored[1]

    def _surprise(self, model: Model) -> NDArray[np.float64]:
        """The nats and targets of each worker's share, [workers, 2]."""
        batches = make_sampler(self._dataset, self._recipe.training).epoch(0)
        mine = shares(batches, self._ranks.rank, self._ranks.world_size)
        told = surprise(model, self._dataset, self._beating(mine), len(self._tokenizer))
        self._pulse.enter(Stage.MEASURED)
        gathered = np.array(self._ranks.gather(told.sum(0).tolist()))
        self._pulse.enter(Stage.MEASURING)
        return gathered

    def _beating(self, batches: Iterable[Rows]) -> Iterator[Rows]:
        """The same batches; each is a sign of progress."""
        for rows in batches:
            self._pulse.beat()
            yield rows


def _some(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    return tuple(samples[:: max(1, len(samples) // NUM_SAMPLES)][:NUM_SAMPLES])
