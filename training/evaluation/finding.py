"""From what a recipe says of its search to sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.errors import UserError
from training.config import SearchConfig
from training.data.batch import Batch
from training.data.tokenizer import UNK_ID, Tokenizer
from training.evaluation.consensus import rank_by_consensus
from training.evaluation.rules import Rules
from training.evaluation.sampling import Draws, chances_of, run_on, sample
from training.evaluation.search import Hypothesis, beam
from training.models.generator import Generator


def find(
    model: Generator[Any],
    batch: Batch,
    tokenizer: Tokenizer,
    search: SearchConfig,
    numbers: Sequence[int],
    num: int = 1,
) -> list[list[Hypothesis]]:
    """Sentences for each row of a batch.

    Args:
        model: in evaluation mode.
        batch: B rows to look at.
        tokenizer: of what is told.
        search: how they are found.
        numbers: by which the rows are known, [B]: what is drawn for one hangs on its number.
        num: sentences a row: so many are drawn, or the beam is at least as wide.

    Returns:
        For each row at least one hypothesis and at most `num`, best first.

    Raises:
        UserError: the model can't be searched so.
    """
    rules = _rules(search, tokenizer, search.max_tokens)
    if search.method == "sample":
        chances = chances_of(search.seed, numbers, num, search.max_tokens + 1)
        return sample(
            model,
            batch,
            search.max_tokens,
            chances,
            _draws(search),
            search.length_penalty,
            rules=rules,
        )
    beam_size = max(search.beam_size, num)
    found = beam(
        model,
        batch,
        beam_size,
        search.max_tokens,
        search.length_penalty,
        coverage_penalty=search.coverage_penalty,
        rules=rules,
        num=beam_size if search.consensus else num,
        patience=search.patience,
    )
    if search.consensus:
        found = [rank_by_consensus(some, search.consensus)[:num] for some in found]
    return found


def write_on(
    model: Generator[Any],
    batch: Batch,
    tokenizer: Tokenizer,
    search: SearchConfig,
    num_tokens: int,
) -> list[list[int]]:
    """Running text for each row of a batch, drawn as `search` says, whatever its method.

    Raises:
        UserError: the model can't be searched so.
    """
    chances = chances_of(search.seed, range(len(batch)), 1, num_tokens)
    return run_on(
        model, batch, chances, _draws(search), rules=_rules(search, tokenizer, num_tokens)
    )


def _draws(search: SearchConfig) -> Draws:
    return Draws(search.temperature, search.top_k, search.top_p)


def _rules(search: SearchConfig, tokenizer: Tokenizer, max_tokens: int) -> Rules:
    prefix = tuple(tokenizer.encode(search.prefix))
    if UNK_ID in prefix:
        raise UserError(
            f"search.prefix: {search.prefix!r}, allowed: words that the model knows, of which it "
            f"reads {tokenizer.decode(prefix)!r}"
        )
    if len(prefix) > max_tokens:
        raise UserError(
            f"search.prefix: {len(prefix)} words, allowed: at most as many as are written, "
            f"{max_tokens}"
        )
    return Rules(search.min_tokens, search.no_repeat_ngram, prefix)
