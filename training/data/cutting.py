"""Warnings of texts that are longer than a recipe lets them be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

_SETTINGS = {
    "tokenizer": "tokenizer.max_tokens allows more",
    "source_tokenizer": (
        "source_tokenizer.max_tokens, or --max-source-tokens of evaluate and predict, allows more"
    ),
}


def describe_cut(
    encoded: Sequence[Sequence[int]],
    limit: int,
    what: str,
    section: Literal["tokenizer", "source_tokenizer"],
) -> tuple[str, ...]:
    """Say how many texts are cut to a number of tokens.

    Args:
        encoded: the tokens of each text, before it is cut.
        limit: of tokens.
        what: the texts are called.
        section: of the recipe that has the limit.

    Returns:
        One warning, or none where no text is cut.
    """
    num = sum(len(ids) > limit for ids in encoded)
    if not num:
        return ()
    longest = max(map(len, encoded))
    return (
        f"{num:,} of {len(encoded):,} {what} are longer than {limit:,} tokens and were cut, the "
        f"longest has {longest:,}: {_SETTINGS[section]}",
    )
