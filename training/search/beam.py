"""Batched beam search and greedy search, for every generator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from intertitle.pipeline.errors import UserError
from intertitle.training.data.batch import Batch
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID
from intertitle.training.models.base import AttentionWeights, Generator
from intertitle.training.search.constraints import Constraints
from intertitle.training.search.fast_topk import fast_topk

# Without this bound, a position without any attention would give every sentence a score of -inf.
MIN_COVERAGE = 1e-6


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A sentence that a search generated.

    Attributes:
        token_ids: tokens of the sentence, without <bos> and <eos>.
        log_prob: log-probability of the sentence and its <eos>, in nats.
        score: log_prob / length ** length_penalty, where length includes <eos>, plus the coverage
            term of beam search; larger is better.
    """

    token_ids: tuple[int, ...]
    log_prob: float
    score: float


NO_CONSTRAINTS = Constraints()


@torch.inference_mode()
def beam(
    model: Generator[Any],
    batch: Batch,
    beam_size: int,
    max_tokens: int,
    length_penalty: float,
    *,
    coverage_penalty: float = 0.0,
    rules: Constraints = NO_CONSTRAINTS,
    num: int | None = None,
    patience: float = math.inf,
) -> list[list[Hypothesis]]:
    """Run beam search over all rows of a batch at once.

    Each step extends the K best unfinished sentences of a row by every token and keeps the K best
    extensions. A sentence that ends among the K best is finished. A row is done once it has `num`
    finished sentences and no unfinished one can still beat the worst of them (Sutskever et al.
    2014, with the length penalty of Wu et al. 2016 in its simplest form), or once `patience` times
    K are finished (Kasai et al. 2022, "A call for clarity in beam search"), as a longer sentence
    rarely turns out better. With K = 1 the search is greedy: it returns the first sentence that
    ends.

    With attention, the score of a finished sentence may include GNMT's coverage: coverage_penalty
    times the sum over the source positions of log(min(1, sum of the attention weights at the
    position)), so that a sentence that omits a part of the source scores lower (Wu et al. 2016,
    equation 14).

    Args:
        model: generator in evaluation mode.
        batch: inputs of B rows.
        beam_size: K.
        max_tokens: maximum number of tokens of a sentence, without <eos>.
        length_penalty: exponent of the length, see `Hypothesis.score`.
        coverage_penalty: factor of the coverage; 0 disables it.
        rules: constraints on the sentences.
        num: number of sentences to return per row, at most K; fewer are found sooner. None means K.
        patience: factor of K after which a row is done, at least 1; infinity finds the best
            sentences that a beam of this size can find.

    Returns:
        At most `num` hypotheses for each row, best first.

    Raises:
        UserError: `coverage_penalty` is not 0 and the model has no attention.
    """
    num_rows, device = len(batch), batch.targets.device
    state = model.start(batch)
    tokens = torch.full((num_rows,), BOS_ID, device=device)
    # The log-probabilities of each row's unfinished hypotheses, and the tokens of all of them, row
    # after row; the first step has one hypothesis per row.
    totals = torch.zeros(num_rows, 1, device=device)
    words = torch.zeros(num_rows, 0, dtype=torch.int64, device=device)
    alive = torch.arange(num_rows, device=device)
    finished: list[list[Hypothesis]] = [[] for _ in range(num_rows)]
    # The best scores among each row's finished sentences, best first.
    records = torch.full((num_rows, num or beam_size), -torch.inf, device=device)
    num_finished = torch.zeros(num_rows, dtype=torch.int64, device=device)
    max_finished = 1 if beam_size == 1 else patience * beam_size
    covered: Tensor | None = None

    for length in range(1, max_tokens + 2):
        log_probs, state = model.step(state, tokens)
        rules.mask_logits(log_probs, words, max_tokens)
        width, vocabulary = totals.shape[1], log_probs.shape[1]
        extra = torch.zeros_like(totals)
        if coverage_penalty:
            attention = _step_with_coverage(model, state, coverage_penalty)
            covered = attention.weights if covered is None else covered + attention.weights
            coverage = (
                covered.clamp(MIN_COVERAGE, 1.0).log().masked_fill(attention.padding_mask, 0.0)
            )
            extra = coverage_penalty * coverage.sum(1).view_as(totals)
        extended = log_probs.add_(totals.view(-1, 1)).view(len(alive), width * vocabulary)
        # At most K of the 2K best extensions are ends, one per hypothesis: K others remain.
        best, indices = fast_topk(extended, min(2 * beam_size, width * vocabulary))
        parents, next_words = indices // vocabulary, indices % vocabulary
        ends = next_words == EOS_ID
        scores = best / length**length_penalty + extra.gather(1, parents)
        ended = (ends & best.isfinite())[:, :beam_size]
        if ended.any():
            rows, columns = ended.nonzero(as_tuple=True)
            ids = words[rows * width + parents[rows, columns]]
            _finish(
                finished,
                alive[rows],
                ids,
                best[rows, columns],
                scores[rows, columns],
            )
            new_scores = scores[:, :beam_size].masked_fill(~ended, -torch.inf)
            records = torch.cat([records, new_scores], 1).topk(records.shape[1]).values
            num_finished = num_finished + ended.sum(1)

        totals, chosen = best.masked_fill(ends, -torch.inf).topk(min(beam_size, best.shape[1]))
        # Upper bound of the scores: a log-probability never increases, the longest sentence has the
        # smallest penalty, and the coverage is at most 0.
        bounds = totals[:, 0] / (max_tokens + 1) ** length_penalty
        is_unfinished = (bounds > records[:, -1]) & (num_finished < max_finished)
        active = is_unfinished.nonzero()[:, 0]
        if not len(active):
            break
        parents, next_words = (
            parents.gather(1, chosen)[active],
            next_words.gather(1, chosen)[active],
        )
        alive, totals = alive[active], totals[active]
        records, num_finished = records[active], num_finished[active]
        parent_index = (active[:, None] * width + parents).flatten()
        state = state.select(parent_index)
        covered = None if covered is None else covered.index_select(0, parent_index)
        tokens = next_words.flatten()
        words = torch.cat([words.index_select(0, parent_index), tokens[:, None]], 1)
    ranked = (sorted(hypotheses, key=lambda h: h.score, reverse=True) for hypotheses in finished)
    return [hypotheses[: records.shape[1]] for hypotheses in ranked]


def _step_with_coverage(
    model: Generator[Any], state: Any, coverage_penalty: float
) -> AttentionWeights:
    attention = model.attention_weights(state)
    if attention is None:
        raise UserError(
            f"search.coverage_penalty: {coverage_penalty}, allowed: 0 for a model without attention"
        )
    return attention


def _finish(
    finished: list[list[Hypothesis]], rows: Tensor, words: Tensor, totals: Tensor, scores: Tensor
) -> None:
    """Append the N sentences that ended to the hypotheses of their rows."""
    columns = (part.tolist() for part in (rows, words, totals, scores))
    for row, ids, log_prob, score in zip(*columns, strict=True):
        finished[row].append(Hypothesis(tuple(ids), log_prob, score))
