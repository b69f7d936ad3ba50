"""Warnings about texts that are longer than a recipe allows."""

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
    text_kind: str,
    section: Literal["tokenizer", "source_tokenizer"],
) -> tuple[str, ...]:
    """Describe how many texts are truncated to a number of tokens.

    Args:
        encoded: tokens of each text before truncation.
        limit: maximum number of tokens.
        text_kind: name of the texts in the warning.
        section: section of the recipe with the limit.

    Returns:
        One warning, or none if no text is truncated.
    """
    num = sum(len(ids) > limit for ids in encoded)
    if not num:
        return ()
    longest = max(map(len, encoded))
    return (
        f"{num:,} of {len(encoded):,} {text_kind} are longer than {limit:,} tokens and were cut, "
        f"the longest has {longest:,}: {_SETTINGS[section]}",
    )
