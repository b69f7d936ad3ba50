"""Finding sentences, batched, over the one interface of generators: greedy, beam, sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.data.batch import Batch
from training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from training.models.generator import Generator

NEVER_WRITTEN = [PAD_ID, BOS_ID, UNK_ID]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A sentence that a model found.

    Attributes:
        token_ids: its words, without <bos> and <eos>.
        log_prob: of the sentence and its <eos>, in nats.
        score: log_prob / length ** length_penalty, where length counts <eos>; larger is better.
    """

    token_ids: tuple[int, ...]
    log_prob: float
    score: float


@torch.inference_mode()
def sample(
    model: Generator[Any], batch: Batch, max_tokens: int, *, through_ends: bool = False
) -> list[list[int]]:
    """Draw a sentence for each row from the model's own distribution, with torch's generator.

    Args:
        model: any generator.
        batch: B rows to look at.
        max_tokens: of a sentence; it is cut there.
        through_ends: write on after <eos>, as running text does: all rows get `max_tokens` tokens,
            <eos> among them.

    Returns:
        Tokens of each row; without <eos>, unless the text runs on.
    """
    device = batch.targets.device
    state = model.start(batch)
    tokens = torch.full((len(batch),), BOS_ID, device=device)
    drawn: list[Tensor] = []
    going = torch.ones(len(batch), dtype=torch.bool, device=device)
    for _ in range(max_tokens):
        log_probs, state = model.step(state, tokens)
        log_probs[:, NEVER_WRITTEN] = -torch.inf
        tokens = torch.multinomial(log_probs.exp(), 1)[:, 0]
        drawn.append(tokens)
        if through_ends:
            tokens = tokens.masked_fill(tokens == EOS_ID, BOS_ID)
            continue
        going &= tokens != EOS_ID
        if not going.any():
            break
    rows: list[list[int]] = torch.stack(drawn, 1).tolist()
    return rows if through_ends else [_before_end(row) for row in rows]


def _before_end(row: list[int]) -> list[int]:
    return row[: row.index(EOS_ID)] if EOS_ID in row else row


@torch.inference_mode()
def beam(
    model: Generator[Any], batch: Batch, beam_size: int, max_tokens: int, length_penalty: float
) -> list[list[Hypothesis]]:
    """Beam search over all rows of a batch at once.

    Each step extends the K best unfinished sentences of a row by every word and keeps the K best of
    those. A sentence that ends among the K best is finished; a row is done once it has K finished
    ones and none that goes on can still beat the worst of them (Sutskever et al. 2014, with the
    length penalty of Wu et al. 2016 in its simplest form). With K = 1 it is greedy: the first
    sentence that ends is the one, whatever the penalty promises to longer ones.

    <unk>, <pad> and <bos> are never written.

    Args:
        model: in evaluation mode.
        batch: B rows to look at.
        beam_size: K.
        max_tokens: after so many a sentence has to end.
        length_penalty: see `Hypothesis.score`.

    Returns:
        For each row at most K hypotheses, best first.
    """
    num_rows, device = len(batch), batch.targets.device
    state = model.start(batch)
    tokens = torch.full((num_rows,), BOS_ID, device=device)
    # What each row's unfinished sentences are worth and hold; the first step has one a row.
    totals = torch.zeros(num_rows, 1, device=device)
    words = torch.zeros(num_rows, 1, 0, dtype=torch.int64, device=device)
    alive = torch.arange(num_rows, device=device)
    finished: list[list[Hypothesis]] = [[] for _ in range(num_rows)]

    for length in range(1, max_tokens + 2):
        log_probs, state = model.step(state, tokens)
        log_probs[:, NEVER_WRITTEN] = -torch.inf
        vocabulary = log_probs.shape[1]
        width = totals.shape[1]
        # After max_tokens words only <eos> is left to say.
        if length == max_tokens + 1:
            log_probs[:, :EOS_ID] = log_probs[:, EOS_ID + 1 :] = -torch.inf
        extended = totals[..., None] + log_probs.view(len(alive), width, vocabulary)
        # 2K, of which at most K can end here: K go on.
        best, places = extended.flatten(1).topk(min(2 * beam_size, width * vocabulary))
        origins, next_words = places // vocabulary, places % vocabulary
        ends = next_words == EOS_ID
        _finish(finished, alive, words, best, origins, ends, beam_size, length, length_penalty)

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
        alive, totals, words = alive[keep], totals[keep], words[keep]
        tokens = next_words[keep].flatten()
    return [sorted(found, key=lambda h: h.score, reverse=True)[:beam_size] for found in finished]


def _finish(
    finished: list[list[Hypothesis]],
    alive: Tensor,
    words: Tensor,
    best: Tensor,
    origins: Tensor,
    ends: Tensor,
    beam_size: int,
    length: int,
    length_penalty: float,
) -> None:
    """Keep the sentences that end among the K best of their row."""
    ends = ends[:, :beam_size] & torch.isfinite(best[:, :beam_size])
    for at, place in ends.nonzero().tolist():
        log_prob = float(best[at, place])
        ids = tuple(words[at, origins[at, place]].tolist())
        finished[int(alive[at])].append(
            Hypothesis(ids, log_prob, log_prob / length**length_penalty)
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
    # A log-probability only falls: at best it stays, over the longest sentence there can be.
    hopes = (totals[:, 0] / (max_tokens + 1) ** length_penalty).tolist()
    undone = []
    for at, (row, hope) in enumerate(zip(alive.tolist(), hopes, strict=True)):
        scores = sorted((h.score for h in finished[row]), reverse=True)[:beam_size]
        better = len(scores) < beam_size or (beam_size > 1 and hope > scores[-1])
        if hope > -torch.inf and better:
            undone.append(at)
    return torch.tensor(undone, dtype=torch.int64, device=totals.device)
