"""Sentences drawn at random from a model's distribution, each from chances of its own.

What a row draws hangs on its own numbers between 0 and 1 alone, and so not on the rows beside it,
on the size of the batch or on the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.batch import Batch
from training.data.tokenizer import BOS_ID, EOS_ID
from training.evaluation.rules import Rules
from training.evaluation.search import Hypothesis
from training.models.generator import Generator

# So that a chance times the sum of all probabilities is less than that sum, rounding or not.
MAX_CHANCE = 1 - 2**-50


@dataclass(frozen=True, slots=True)
class Draws:
    """Which words are drawn, and how boldly.

    Attributes:
        temperature: log-probabilities are divided by it: below 1 the likely get likelier.
        top_k: only the K likeliest words; 0 is all (Fan et al. 2018).
        top_p: only the fewest likeliest words that have this probability together; 1 is all
            (Holtzman et al. 2020, nucleus sampling); after top_k.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def draw(self, log_probs: Tensor, chances: Tensor) -> Tensor:
        """A word for each row.

        Args:
            log_probs: [N, V]; at least one of a row is not -inf. They need not be normalised.
            chances: uniform in [0, 1), float64, [N].

        Returns:
            [N].
        """
        tempered = log_probs.double() / self.temperature
        if 0 < self.top_k < tempered.shape[1]:
            likeliest = tempered.topk(self.top_k, 1)
            tempered = torch.full_like(tempered, -torch.inf).scatter(1, *likeliest[::-1])
        probabilities = tempered.softmax(1)
        if self.top_p < 1:
            ranked, order = probabilities.sort(dim=1, descending=True, stable=True)
            # What is before a word has it all already.
            ranked = ranked.masked_fill(ranked.cumsum(1) - ranked >= self.top_p, 0.0)
            probabilities = torch.zeros_like(ranked).scatter(1, order, ranked)
        # In the vocabulary's order, where two words alike do not change places with the batch.
        sums = probabilities.cumsum(1)
        return torch.searchsorted(sums, (chances * sums[:, -1])[:, None], right=True)[:, 0]


def chances_of(seed: int, numbers: Sequence[int], num_draws: int, num_steps: int) -> Tensor:
    """Numbers to draw sentences by, uniform in [0, 1).

    Args:
        seed: other chances for each.
        numbers: of B rows, by which a row is known wherever it stands.
        num_draws: K sentences a row; the first of them are the same whatever K.
        num_steps: of a sentence at most, with <eos>.

    Returns:
        float64, [B, K, num_steps].
    """
    drawn = [
        [np.random.default_rng((seed, number, k)).random(num_steps) for k in range(num_draws)]
        for number in numbers
    ]
    return torch.from_numpy(np.minimum(np.array(drawn), MAX_CHANCE))


@torch.inference_mode()
def sample(
    model: Generator[Any],
    batch: Batch,
    max_tokens: int,
    chances: Tensor,
    how: Draws,
    length_penalty: float,
    *,
    rules: Rules,
) -> list[list[Hypothesis]]:
    """Draw sentences for each row.

    Args:
        model: in evaluation mode.
        batch: B rows to look at.
        max_tokens: after so many a sentence has to end.
        chances: [B, K, max_tokens + 1], see `chances_of`.
        how: which words are drawn.
        length_penalty: see `Hypothesis.score`.
        rules: what a sentence may hold.

    Returns:
        For each row K hypotheses, best first; one may come twice. Their log-probabilities are the
        model's own, whatever they were drawn by.
    """
    device, num_draws = batch.targets.device, chances.shape[1]
    rows = torch.arange(len(batch), device=device).repeat_interleave(num_draws)
    chances = chances.flatten(0, 1).to(device)
    state = model.start(batch).select(rows)
    tokens = torch.full_like(rows, BOS_ID)
    alive = torch.arange(len(rows), device=device)
    totals = torch.zeros(len(rows), device=device)
    words = torch.zeros(len(rows), 0, dtype=torch.int64, device=device)
    drawn: list[list[Hypothesis]] = [[] for _ in range(len(batch))]
    while len(alive):
        log_probs, state = model.step(state, tokens)
        allowed = log_probs.clone()
        rules.forbid(allowed, words, max_tokens)
        tokens = how.draw(allowed, chances[alive, words.shape[1]])
        totals = totals + log_probs.gather(1, tokens[:, None])[:, 0]
        ends = tokens == EOS_ID
        for at in ends.nonzero()[:, 0].tolist():
            log_prob, ids = float(totals[at]), tuple(words[at].tolist())
            score = log_prob / (len(ids) + 1) ** length_penalty
            drawn[int(alive[at]) // num_draws].append(Hypothesis(ids, log_prob, score))
        words = torch.cat([words, tokens[:, None]], 1)
        if ends.any():
            on = (~ends).nonzero()[:, 0]
            state = state.select(on)
            tokens, alive, totals, words = tokens[on], alive[on], totals[on], words[on]
    return [sorted(found, key=lambda h: h.score, reverse=True) for found in drawn]


@torch.inference_mode()
def run_on(
    model: Generator[Any], batch: Batch, chances: Tensor, how: Draws, *, rules: Rules
) -> list[list[int]]:
    """Draw running text for each row, which goes on after an <eos>.

    Args:
        model: in evaluation mode.
        batch: B rows to look at.
        chances: [B, 1, L], see `chances_of`.
        how: which tokens are drawn.
        rules: what a text may hold.

    Returns:
        L tokens of each row, <eos> among them.
    """
    device, num_tokens = batch.targets.device, chances.shape[2]
    chances = chances[:, 0].to(device)
    state = model.start(batch)
    written = torch.zeros(len(batch), 0, dtype=torch.int64, device=device)
    tokens = torch.full((len(batch),), BOS_ID, device=device)
    for at in range(num_tokens):
        log_probs, state = model.step(state, tokens)
        rules.forbid(log_probs, written, num_tokens)
        drawn = how.draw(log_probs, chances[:, at])
        written = torch.cat([written, drawn[:, None]], 1)
        tokens = drawn.masked_fill(drawn == EOS_ID, BOS_ID)
    rows: list[list[int]] = written.tolist()
    return rows
