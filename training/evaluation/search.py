"""The likeliest sentences, batched, over the one interface of generators: beam, and greedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError
from training.data.batch import Batch
from training.data.tokenizer import BOS_ID, EOS_ID
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
) -> list[list[Hypothesis]]:
    """Beam search over all rows of a batch at once.

    Each step extends the K best unfinished sentences of a row by every word and keeps the K best of
    those. A sentence that ends among the K best is finished; a row is done once it has K finished
    ones and none that goes on can still beat the worst of them (Sutskever et al. 2014, with the
    length penalty of Wu et al. 2016 in its simplest form). With K = 1 it is greedy: the first
    sentence that ends is the one, whatever the penalty promises to longer ones.

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

    Returns:
        For each row at most K hypotheses, best first.

    Raises:
        UserError: a coverage penalty and a model without attention.
    """
    num_rows, device = len(batch), batch.targets.device
    state = model.start(batch)
    tokens = torch.full((num_rows,), BOS_ID, device=device)
    # What each row's unfinished sentences are worth and hold; the first step has one a row.
    totals = torch.zeros(num_rows, 1, device=device)
    words = torch.zeros(num_rows, 1, 0, dtype=torch.int64, device=device)
    alive = torch.arange(num_rows, device=device)
    finished: list[list[Hypothesis]] = [[] for _ in range(num_rows)]
    covered: Tensor | None = None

    for length in range(1, max_tokens + 2):
        log_probs, state = model.step(state, tokens)
        rules.forbid(log_probs, words.flatten(0, 1), max_tokens)
        vocabulary = log_probs.shape[1]
        width = totals.shape[1]
        extra = torch.zeros_like(totals)
        if coverage_penalty:
            look = _look(model, state, coverage_penalty)
            covered = look.weights if covered is None else covered + look.weights
            seen = covered.clamp(LEAST_COVERED, 1.0).log().masked_fill(look.beyond, 0.0)
            extra = coverage_penalty * seen.sum(1).view_as(totals)
        extended = totals[..., None] + log_probs.view(len(alive), width, vocabulary)
        # 2K, of which at most K can end here: K go on.
        best, places = extended.flatten(1).topk(min(2 * beam_size, width * vocabulary))
        origins, next_words = places // vocabulary, places % vocabulary
        ends = next_words == EOS_ID
        scores = best / length**length_penalty + extra.gather(1, origins)
        _finish(finished, alive, words, best, scores, origins, ends[:, :beam_size])

        going = best.masked_fill(ends, -torch.inf)
        totals, chosen = going.topk(min(beam_size, going.shape[1]))
        origins, next_words = origins.gather(1, chosen), next_words.gather(1, chosen)
        words = torch.cat(
            [
                words.gather(1, origins[..., None].expand(-1, -1, words.shape[2])),
                next_words[..., None],
            ],
            2,
        )
        keep = _undone(finished, alive, totals, beam_size, max_tokens, length_penalty)
        if not len(keep):
            break
        flat = (keep[:, None] * width + origins[keep]).flatten()
        state = state.select(flat)
        covered = None if covered is None else covered.index_select(0, flat)
        alive, totals, words = alive[keep], totals[keep], words[keep]
        tokens = next_words[keep].flatten()
    return [sorted(found, key=lambda h: h.score, reverse=True)[:beam_size] for found in finished]


def _look(model: Generator[Any], state: Any, coverage_penalty: float) -> Attended:
    look = model.attended(state)
    if look is None:
        raise UserError(
            f"search.coverage_penalty: {coverage_penalty}, allowed: 0 for a model without attention"
        )
    return look


def _finish(
    finished: list[list[Hypothesis]],
    alive: Tensor,
    words: Tensor,
    best: Tensor,
    scores: Tensor,
    origins: Tensor,
    ends: Tensor,
) -> None:
    """Keep the sentences that end among the K best of their row."""
    ends = ends & torch.isfinite(best[:, : ends.shape[1]])
    for at, place in ends.nonzero().tolist():
        ids = tuple(words[at, origins[at, place]].tolist())
        finished[int(alive[at])].append(
            Hypothesis(ids, float(best[at, place]), float(scores[at, place]))
        )


def _undone(
    finished: list[list[Hypothesis]],
    alive: Tensor,
    totals: Tensor,
    beam_size: int,
    max_tokens: int,
    length_penalty: float,
) -> Tensor:
    """Indices of the rows in which an unfinished sentence may still be among the K best."""
    # A log-probability only falls: at best it stays, over the longest sentence there can be; and
    # coverage, which is never above 0, may come to be 0.
    hopes = (totals[:, 0] / (max_tokens + 1) ** length_penalty).tolist()
    undone = []
    for at, (row, hope) in enumerate(zip(alive.tolist(), hopes, strict=True)):
        scores = sorted((h.score for h in finished[row]), reverse=True)[:beam_size]
        better = len(scores) < beam_size or (beam_size > 1 and hope > scores[-1])
        if hope > -torch.inf and better:
            undone.append(at)
    return torch.tensor(undone, dtype=torch.int64, device=totals.device)
