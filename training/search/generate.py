"""Generate text with the search settings of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from intertitle.pipeline.errors import UserError
from intertitle.training.config.sections import SearchConfig
from intertitle.training.data.batch import Batch
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, UNK_ID, Tokenizer
from intertitle.training.models.base import Generator
from intertitle.training.search.beam import Hypothesis, beam
from intertitle.training.search.constraints import Constraints
from intertitle.training.search.mbr import mbr_rank
from intertitle.training.search.sampling import (
    SamplingParams,
    sample,
    sample_continuation,
    uniforms,
)


def generate(
    model: Generator[Any],
    batch: Batch,
    tokenizer: Tokenizer,
    search: SearchConfig,
    numbers: Sequence[int],
    num: int = 1,
) -> list[list[Hypothesis]]:
    """Generate sentences for each row of a batch.

    Args:
        model: generator in evaluation mode.
        batch: inputs of B rows.
        tokenizer: tokenizer of the target texts.
        search: search settings.
        numbers: number that identifies each row, [B]; the random numbers of a row depend only on
            its number and the seed.
        num: number of sentences per row: the number of samples, or the minimum size of the beam.

    Returns:
        At least one and at most `num` hypotheses for each row, best first.

    Raises:
        UserError: the settings do not fit the model.
    """
    rules = _constraints(search, tokenizer, search.max_tokens)
    if search.method == "sample":
        random_numbers = uniforms(search.seed, numbers, num, search.max_tokens + 1)
        return sample(
            model,
            batch,
            search.max_tokens,
            random_numbers,
            _sampling_params(search),
            search.length_penalty,
            rules=rules,
        )
    beam_size = max(search.beam_size, num)
    hypotheses = beam(
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
        hypotheses = [
            mbr_rank(row_hypotheses, search.consensus)[:num] for row_hypotheses in hypotheses
        ]
    return hypotheses


def sample_stream(
    model: Generator[Any],
    batch: Batch,
    tokenizer: Tokenizer,
    search: SearchConfig,
    num_tokens: int,
) -> list[list[int]]:
    """Generate running text for each row of a batch, by sampling whatever the method of `search`.

    Args:
        model: generator in evaluation mode.
        batch: inputs of B rows.
        tokenizer: tokenizer of the texts.
        search: search settings.
        num_tokens: number of tokens of each text.

    Raises:
        UserError: the settings do not fit the model.
    """
    random_numbers = uniforms(search.seed, range(len(batch)), 1, num_tokens)
    return sample_continuation(
        model,
        batch,
        random_numbers,
        _sampling_params(search),
        rules=_constraints(search, tokenizer, num_tokens),
    )


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """A token as it is generated.

    Attributes:
        token_id: the token; EOS_ID ends a sentence, or a line of running text.
        log_prob: log-probability of the token under the model, in nats.
    """

    token_id: int
    log_prob: float


@torch.inference_mode()
def iter_tokens(
    model: Generator[Any],
    batch: Batch,
    tokenizer: Tokenizer,
    search: SearchConfig,
    number: int,
    num_tokens: int | None = None,
) -> Iterator[GeneratedToken]:
    """Generate one text token by token: greedily, or by sampling.

    The tokens are those of `generate` with a beam of 1 or one sample, or of `sample_stream`.

    Args:
        model: generator in evaluation mode.
        batch: inputs of one row.
        tokenizer: tokenizer of the target texts.
        search: search settings; the method "beam" is greedy, whatever its beam size.
        number: number that identifies the row, see `generate`.
        num_tokens: number of tokens of running text; None generates a sentence, which ends with
            EOS_ID.

    Raises:
        UserError: the settings do not fit the model.
    """
    max_tokens = search.max_tokens if num_tokens is None else num_tokens
    rules, params = _constraints(search, tokenizer, max_tokens), _sampling_params(search)
    num_steps = max_tokens + (num_tokens is None)
    is_sampled = search.method == "sample" or num_tokens is not None
    device = batch.targets.device
    random_numbers = uniforms(search.seed, [number], 1, num_steps)[0, 0].to(device)
    state = model.start(batch)
    tokens = torch.full((1,), BOS_ID, device=device)
    written = torch.zeros(1, 0, dtype=torch.int64, device=device)
    for step in range(num_steps):
        log_probs, state = model.step(state, tokens)
        allowed = log_probs.clone()
        rules.mask_logits(allowed, written, max_tokens)
        tokens = (
            params.draw(allowed, random_numbers[step : step + 1])
            if is_sampled
            else allowed.argmax(1)
        )
        yield GeneratedToken(int(tokens), float(log_probs[0, tokens]))
        written = torch.cat([written, tokens[:, None]], 1)
        if num_tokens is None and int(tokens) == EOS_ID:
            return
        tokens = tokens.masked_fill(tokens == EOS_ID, BOS_ID)


def _sampling_params(search: SearchConfig) -> SamplingParams:
    return SamplingParams(search.temperature, search.top_k, search.top_p)


def _constraints(search: SearchConfig, tokenizer: Tokenizer, max_tokens: int) -> Constraints:
    prefix = tuple(tokenizer.encode(search.prefix))
    if UNK_ID in prefix:
        raise UserError(
            f"search.prefix: {search.prefix!r}, allowed: words that the model knows, of which it "
            f"reads {tokenizer.decode(prefix)!r}"
        )
    if len(prefix) > max_tokens:
        raise UserError(
            f"search.prefix: {len(prefix)} words, allowed: at most {max_tokens}, "
            "the maximum length of the output"
        )
    return Constraints(search.min_tokens, search.no_repeat_ngram, prefix)
