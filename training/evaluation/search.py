"""The likeliest sentences, batched, over the one interface of generators: beam, and greedy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError
from training.data.batch import Batch
from training.data.tokenizer import BOS_ID, EOS_ID
from training.evaluation.largest import largest
from training.evaluation.rules import Rules
from training.models.generator import Attended, Generator

# A place that was never looked at would make every sentence worthless.
LEAST_COVERED = 1e-6


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A sentence that a model found.

    Attributes:
        token_ids: its words, without <bos> and <eos>.
        log_prob: of the sentence and its <eos>, in nats.
        score: log_prob / length ** length_penalty, where length counts <eos>, and what a beam adds
            for coverage; larger is better.
    """

    token_ids: tuple[int, ...]
    log_prob: float
    score: float


ANYTHING = Rules()


@torch.inference_mode()
def beam(
    model: Generator[Any],
    batch: Batch,
    beam_size: int,
    max_tokens: int,
    length_penalty: float,
    *,
    coverage_penalty: float = 0.0,
    rules: Rules = ANYTHING,
    num: int | None = None,
    patience: float = math.inf,
) -> list[list[Hypothesis]]:
    """Beam search over all rows of a batch at once.

    Each step extends the K best unfinished sentences of a row by every word and keeps the K best of
    those. A sentence that ends among the K best is finished; a row is done once it has as many
    finished ones as are wanted and none that goes on can still beat the worst of them (Sutskever et
    al. 2014, with the length penalty of Wu et al. 2016 in its simplest form), or once `patience`
    times K are finished (Kasai et al. 2022, "A call for clarity in beam search"): what a longer one
    may still promise it seldom keeps. With K = 1 it is greedy: the first sentence that ends is the
    one.

    With attention, a finished sentence's score may have GNMT's coverage beside it: coverage_penalty
    times the sum over the source's places of log(min(1, all weights that fell on it)), so that
    what leaves a part unsaid loses (Wu et al. 2016, equation 14).

    Args:
        model: in evaluation mode.
        batch: B rows to look at.
        beam_size: K.
        max_tokens: after so many a sentence has to end.
        length_penalty: see `Hypothesis.score`.
        coverage_penalty: see above; 0 is without.
        rules: what a sentence may hold.
        num: sentences a row that are wanted, K at most; fewer are sooner found. None: K.
        patience: see above, 1 at least; infinite finds the best that this beam can.

    Returns:
        For each row at most `num` hypotheses, best first.

    Raises:
        UserError: a coverage penalty and a model without attention.
    """
    num_rows, device = len(batch), batch.targets.device
    state = model.start(batch)
    tokens = torch.full((num_rows,), BOS_ID, device=device)
    # What each row's unfinished sentences are worth, and the words of all, row after row; the first
    # step has one a row.
    totals = torch.zeros(num_rows, 1, device=device)
    words = torch.zeros(num_rows, 0, dtype=torch.int64, device=device)
    alive = torch.arange(num_rows, device=device)
    finished: list[list[Hypothesis]] = [[] for _ in range(num_rows)]
    # The best scores among each row's finished sentences, best first.
    records = torch.full((num_rows, num or beam_size), -torch.inf, device=device)
    num_finished = torch.zeros(num_rows, dtype=torch.int64, device=device)
    enough = 1 if beam_size == 1 else patience * beam_size
    covered: Tensor | None = None

    for length in range(1, max_tokens + 2):
        log_probs, state = model.step(state, tokens)
        rules.forbid(log_probs, words, max_tokens)
        width, vocabulary = totals.shape[1], log_probs.shape[1]
        extra = torch.zeros_like(totals)
        if coverage_penalty:
            look = _look(model, state, coverage_penalty)
            covered = look.weights if covered is None else covered + look.weights
            seen = covered.clamp(LEAST_COVERED, 1.0).log().masked_fill(look.beyond, 0.0)
            extra = coverage_penalty * seen.sum(1).view_as(totals)
        extended = log_probs.add_(totals.view(-1, 1)).view(len(alive), width * vocabulary)
        # 2K, of which at most K can end here: K go on.
        best, places = largest(extended, min(2 * beam_size, width * vocabulary))
        origins, next_words = places // vocabulary, places % vocabulary
        ends = next_words == EOS_ID
        scores = best / length**length_penalty + extra.gather(1, origins)
        ended = (ends & best.isfinite())[:, :beam_size]
        if ended.any():
            at, place = ended.nonzero(as_tuple=True)
            ids = words[at * width + origins[at, place]]
            _finish(finished, alive[at], ids, best[at, place], scores[at, place])
            new = scores[:, :beam_size].masked_fill(~ended, -torch.inf)
            records = torch.cat([records, new], 1).topk(records.shape[1]).values
            num_finished = num_finished + ended.sum(1)

        totals, chosen = best.masked_fill(ends, -torch.inf).topk(min(beam_size, best.shape[1]))
        # A log-probability only falls: at best it stays, over the longest sentence there can be;
        # and coverage, which is never above 0, may come to be 0.
        hopes = totals[:, 0] / (max_tokens + 1) ** length_penalty
        undone = (hopes > records[:, -1]) & (num_finished < enough)
        keep = undone.nonzero()[:, 0]
        if not len(keep):
            break
        origins, next_words = origins.gather(1, chosen)[keep], next_words.gather(1, chosen)[keep]
        alive, totals = alive[keep], totals[keep]
        records, num_finished = records[keep], num_finished[keep]
        flat = (keep[:, None] * width + origins).flatten()
        state = state.select(flat)
        covered = None if covered is None else covered.index_select(0, flat)
        tokens = next_words.flatten()
        words = torch.cat([words.index_select(0, flat), tokens[:, None]], 1)
    ranked = (sorted(found, key=lambda h: h.score, reverse=True) for found in finished)
    return [found[: records.shape[1]] for found in ranked]


def _look(model: Generator[Any], state: Any, coverage_penalty: float) -> Attended:
    look = model.attended(state)
    if look is None:
        raise UserError(
            f"search.coverage_penalty: {coverage_penalty}, allowed: 0 for a model without attention"
        )
    return look


def _finish(
    finished: list[list[Hypothesis]], rows: Tensor, words: Tensor, totals: Tensor, scores: Tensor
) -> None:
    """Keep the sentences that ended, [N], with their rows."""
    found = (part.tolist() for part in (rows, words, totals, scores))
    for row, ids, log_prob, score in zip(*found, strict=True):
        finished[row].append(Hypothesis(tuple(ids), log_prob, score))
