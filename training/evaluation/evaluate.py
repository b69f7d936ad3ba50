"""A split becomes sentences, and sentences become scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from training.config import SearchConfig
from training.data.dataset import Dataset
from training.data.tokenizer import WordTokenizer
from training.evaluation.metrics import ALL_METRICS, CaptionScorer, Scores
from training.evaluation.search import Hypothesis, beam
from training.models.generator import Generator

# Examples searched at once: K times as many rows go through the network together.
SEARCH_BATCH = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """What a model said of one example.

    Attributes:
        id: of the example.
        item_key: of the item it saw.
        hypothesis: the sentence.
        references: what people said.
        score: of the search, see `Hypothesis.score`.
    """

    id: str
    item_key: str
    hypothesis: str
    references: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a model did on a split.

    Attributes:
        split: its name.
        samples: an entry for each example that has features.
        num_left_out: examples whose item is in quarantine.
        scores: of the whole, with how each was computed.
    """

    split: str
    samples: tuple[Sample, ...]
    num_left_out: int
    scores: Scores


def search_examples(
    model: Generator[Any], dataset: Dataset, examples: Sequence[int] | range, search: SearchConfig
) -> list[Hypothesis]:
    """The best sentence for each of some examples."""
    device = next(model.parameters()).device
    found: list[Hypothesis] = []
    for at in range(0, len(examples), SEARCH_BATCH):
        batch = dataset.questions(examples[at : at + SEARCH_BATCH]).to(device)
        rows = beam(model, batch, search.beam_size, search.max_words, search.length_penalty)
        found.extend(row[0] for row in rows)
    return found


def make_samples(
    dataset: Dataset, hypotheses: Mapping[int, Hypothesis], tokenizer: WordTokenizer
) -> list[Sample]:
    """Hypotheses by example, in the examples' order, beside their references."""
    return [
        Sample(
            id=dataset.examples[n].id,
            item_key=str(dataset.examples[n].item_key),
            hypothesis=tokenizer.decode(hypotheses[n].token_ids),
            references=dataset.examples[n].targets,
            score=hypotheses[n].score,
        )
        for n in sorted(hypotheses)
    ]


def evaluate(
    model: Generator[Any],
    tokenizer: WordTokenizer,
    dataset: Dataset,
    split: str,
    search: SearchConfig,
    metrics: Collection[str] = ALL_METRICS,
) -> Evaluation:
    """Search a whole split, and score what was found."""
    with torch.inference_mode():
        found = search_examples(model, dataset, range(len(dataset.examples)), search)
    samples = make_samples(dataset, dict(enumerate(found)), tokenizer)
    scorer = CaptionScorer([sample.references for sample in samples])
    scores = scorer.score([sample.hypothesis for sample in samples], metrics)
    return Evaluation(split, tuple(samples), dataset.num_left_out, scores)
