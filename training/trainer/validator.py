"""Measure a model on the validation split, on all workers together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from intertitle.training.config.recipe import Recipe
from intertitle.training.config.sections import SearchConfig
from intertitle.training.data.dataset import Dataset, make_sampler
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.sampler import Rows, shares
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.evaluation.answers import answer_examples, make_samples
from intertitle.training.evaluation.evaluate import sample_texts
from intertitle.training.evaluation.likelihood import negative_log_likelihood
from intertitle.training.evaluation.metrics.sufficient_stats import score_of
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.scorers import Scorer, make_scorer
from intertitle.training.models.base import Generator, Model
from intertitle.training.trainer.distributed import Ranks
from intertitle.training.trainer.workers.watchdog import Pulse, Stage

NUM_SAMPLES = 8


class Validator:
    """Measures models on one split.

    Args:
        recipe: recipe of the training.
        dataset: split to measure on.
        tokenizer: tokenizer of the targets.
        ranks: rank of this worker.
        pulse: progress that is reported to the watchdog.

    Attributes:
        search_name: search that predictions are generated with, "" for a task without one.
        not_measured: reason for each metric that the last call of `measure` could not measure.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset | LanguageModelDataset,
        tokenizer: Tokenizer,
        ranks: Ranks,
        pulse: Pulse,
    ) -> None:
        self._recipe, self._dataset = recipe, dataset
        self._tokenizer, self._ranks, self._pulse = tokenizer, ranks, pulse
        self._scorer: Scorer | None = None
        self.not_measured: dict[str, str] = {}
        # Greedy search: the beam of the recipe is for the last evaluation, which takes longer.
        self._search = SearchConfig(beam_size=1, max_tokens=recipe.search.max_tokens)
        is_sentence = isinstance(dataset, Dataset) and dataset.task.output == "sentence"
        self.search_name = self._search.describe() if is_sentence else ""

    def measure(self, model: Model) -> tuple[dict[str, float], tuple[Sample, ...]]:
        """Return figures by name, and some samples; both are the same on every worker.

        Args:
            model: model in evaluation mode.
        """
        nll = self._surprise(model)
        nats = score_of("nats_per_token", nll)
        if not math.isfinite(nats):
            # Such a model can't generate anything; the training loop raises the error.
            return {"nats_per_token": nats}, ()
        dataset = self._dataset
        if isinstance(dataset, LanguageModelDataset):
            assert isinstance(model, Generator)
            texts = sample_texts(model, self._tokenizer, self._recipe.search)
            perplexity = score_of("perplexity", nll)
            return {"nats_per_token": nats, "perplexity": perplexity}, _some(texts)
        own_examples = range(len(dataset.examples))[self._ranks.rank :: self._ranks.world_size]
        own_answers = answer_examples(
            model, dataset, own_examples, self._search, lambda *_: self._pulse.beat()
        )
        self._pulse.enter(Stage.MEASURED)
        parts = self._ranks.gather(dict(zip(own_examples, own_answers, strict=True)))
        self._pulse.enter(Stage.MEASURING)
        scored: tuple[dict[str, float], tuple[Sample, ...], dict[str, str]] | None = None
        if self._ranks.rank == 0:
            answers = {n: answer for part in parts for n, answer in part.items()}
            self._scorer = self._scorer or make_scorer(dataset, self._recipe.evaluation)
            scores = self._scorer.score_answers(
                [answers[n] for n in sorted(answers)],
                quick=True,
                monitor=self._recipe.training.monitor,
            )
            samples = _some(make_samples(dataset, answers))
            scored = (scores.values, samples, scores.not_measured)
        scored = self._ranks.broadcast(scored)
        assert scored is not None
        figures, samples, self.not_measured = scored
        return {"nats_per_token": nats} | figures, samples

    def _surprise(self, model: Model) -> NDArray[np.float64]:
        """Return the nats and the number of targets of each worker's share, [workers, 2]."""
        batches = make_sampler(self._dataset, self._recipe.training).epoch(0)
        own_batches = shares(batches, self._ranks.rank, self._ranks.world_size)
        nll = negative_log_likelihood(
            model, self._dataset, self._beating(own_batches), len(self._tokenizer)
        )
        self._pulse.enter(Stage.MEASURED)
        gathered = np.array(self._ranks.gather(nll.sum(0).tolist()))
        self._pulse.enter(Stage.MEASURING)
        return gathered

    def _beating(self, batches: Iterable[Rows]) -> Iterator[Rows]:
        """Yield the same batches, and count each as progress."""
        for rows in batches:
            self._pulse.beat()
            yield rows


def _some(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    return tuple(samples[:: max(1, len(samples) // NUM_SAMPLES)][:NUM_SAMPLES])
