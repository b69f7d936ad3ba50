"""Warnings about texts that are far from what a model has learned from."""

from __future__ import annotations

from collections.abc import Sequence

from intertitle.training.data.tokenizer import UNK_ID


def unknown_words(source: Sequence[int]) -> tuple[str, ...]:
    """Return a warning about a text most of whose words the model has not learned."""
    num = sum(token == UNK_ID for token in source)
    if 2 * num <= len(source):
        return ()
    return (f"{num} of {len(source)} words are unknown to the model: the answer is a guess",)
