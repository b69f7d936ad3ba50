"""Random sampling of sentences, with separate random numbers for each row.

The tokens sampled for a row depend only on the row's own random numbers, not on the other rows, the
batch size or the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intertitle.training.data.batch import Batch
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID
from intertitle.training.models.base import Generator
from intertitle.training.search.beam import Hypothesis
from intertitle.training.search.constraints import Constraints


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Parameters of the distribution that tokens are sampled from.

    Attributes:
        temperature: divisor of the log-probabilities; below 1, probable tokens become more
            probable.
        top_k: number of most probable tokens to sample from; 0 means all (Fan et al. 2018).
        top_p: total probability of the smallest set of most probable tokens to sample from; 1 means
            all (Holtzman et al. 2020, nucleus sampling); applied after top_k.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def draw(self, log_probs: Tensor, chances: Tensor) -> Tensor:
        """Sample a token for each row.

        Args:
            log_probs: log-probabilities, [N, V]; at least one of each row is not -inf. They need
                not be normalized.
            chances: random numbers, uniform in [0, 1), float64, [N].

        Returns:
            The sampled tokens, [N].
        """
        logits = log_probs.double()
        # The most probable token has 0 at any temperature, however low.
        scaled = (logits - logits.amax(1, keepdim=True)) / self.temperature
        if 0 < self.top_k < scaled.shape[1]:
            top = scaled.topk(self.top_k, 1)
            scaled = torch.full_like(scaled, -torch.inf).scatter(1, *top[::-1])
        probabilities = scaled.softmax(1)
        if self.top_p < 1:
            ranked, order = probabilities.sort(dim=1, descending=True, stable=True)
            # Drop a token if the tokens ranked before it already have probability top_p.
            ranked = ranked.masked_fill(ranked.cumsum(1) - ranked >= self.top_p, 0.0)
            probabilities = torch.zeros_like(ranked).scatter(1, order, ranked)
        # In vocabulary order: equally probable tokens have the same order in every batch.
        sums = probabilities.cumsum(1)
        # A double below 1 times the sum stays below the sum, even rounded: some token is found.
        return torch.searchsorted(sums, (chances * sums[:, -1])[:, None], right=True).squeeze(1)


def uniforms(seed: int, numbers: Sequence[int], num_draws: int, num_steps: int) -> Tensor:
    """Draw the random numbers for sampling, uniform in [0, 1).

    Args:
        seed: seed of the random numbers.
        numbers: number that identifies each of B rows, independent of its position in the batch.
        num_draws: K, number of sentences per row; the numbers of the first ones do not depend on K.
        num_steps: maximum number of tokens of a sentence, with <eos>.

    Returns:
        Random numbers, float64, [B, K, num_steps].
    """
    drawn = [
        [np.random.default_rng((seed, number, k)).random(num_steps) for k in range(num_draws)]
        for number in numbers
    ]
    return torch.from_numpy(np.array(drawn))


@torch.inference_mode()
def sample(
    model: Generator[Any],
    batch: Batch,
    max_tokens: int,
    chances: Tensor,
    params: SamplingParams,
    length_penalty: float,
    *,
    rules: Constraints,
) -> list[list[Hypothesis]]:
    """Sample sentences for each row.

    Args:
        model: generator in evaluation mode.
        batch: inputs of B rows.
        max_tokens: maximum number of tokens of a sentence, without <eos>.
        chances: random numbers of `uniforms`, [B, K, max_tokens + 1].
        params: parameters of the distribution.
        length_penalty: exponent of the length, see `Hypothesis.score`.
        rules: constraints on the sentences.

    Returns:
        K hypotheses for each row, best first, possibly with duplicates. Their log-probabilities are
        those of the unmodified distribution of the model.
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
        rules.mask_logits(allowed, words, max_tokens)
        tokens = params.draw(allowed, chances[alive, words.shape[1]])
        totals = totals + log_probs.gather(1, tokens[:, None]).squeeze(1)
        ends = tokens == EOS_ID
        for index in ends.nonzero().squeeze(1).tolist():
            log_prob, ids = float(totals[index]), tuple(words[index].tolist())
            score = log_prob / (len(ids) + 1) ** length_penalty
            drawn[int(alive[index]) // num_draws].append(Hypothesis(ids, log_prob, score))
        words = torch.cat([words, tokens[:, None]], 1)
        if ends.any():
            remaining = (~ends).nonzero().squeeze(1)
            state = state.select(remaining)
            tokens, alive, totals, words = (
                tokens[remaining],
                alive[remaining],
                totals[remaining],
                words[remaining],
            )
    return [sorted(hypotheses, key=lambda h: h.score, reverse=True) for hypotheses in drawn]


@torch.inference_mode()
def sample_continuation(
    model: Generator[Any],
    batch: Batch,
    chances: Tensor,
    params: SamplingParams,
    *,
    rules: Constraints,
) -> list[list[int]]:
    """Sample running text for each row, which continues after an <eos>.

    Args:
        model: generator in evaluation mode.
        batch: inputs of B rows.
        chances: random numbers of `uniforms`, [B, 1, L].
        params: parameters of the distribution.
        rules: constraints on the text.

    Returns:
        L tokens for each row, including <eos>.
    """
    device, num_tokens = batch.targets.device, chances.shape[2]
    chances = chances.squeeze(1).to(device)
    state = model.start(batch)
    written = torch.zeros(len(batch), 0, dtype=torch.int64, device=device)
    tokens = torch.full((len(batch),), BOS_ID, device=device)
    for step in range(num_tokens):
        log_probs, state = model.step(state, tokens)
        rules.mask_logits(log_probs, written, num_tokens)
        sampled = params.draw(log_probs, chances[:, step])
        written = torch.cat([written, sampled[:, None]], 1)
        tokens = sampled.masked_fill(sampled == EOS_ID, BOS_ID)
    rows: list[list[int]] = written.tolist()
    return rows
