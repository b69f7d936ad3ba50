"""The tokenizers of a training: of what a model tells, and of what it reads, kept together."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import UserError
from training.config import Recipe, TokenizerConfig
from training.data.tokenizer import SPECIAL, Tokenizer


@dataclass(frozen=True, slots=True)
class Vocabularies:
    """How texts become numbers and back.

    Attributes:
        target: of what is told.
        source: of what is read; None where nothing is.
    """

    target: Tokenizer
    source: Tokenizer | None = None

    def to_json(self) -> str:
        """All of it, as one text."""
        both = {"target": self.target, "source": self.source}
        return json.dumps({name: t.to_json() for name, t in both.items() if t is not None})

    @classmethod
    def from_json(cls, text: str) -> Vocabularies:
        """The inverse of `to_json`."""
        return cls(**{name: Tokenizer.from_json(t) for name, t in json.loads(text).items()})


def train_vocabularies(
    recipe: Recipe, targets: Iterable[str], sources: Iterable[str] | None
) -> Vocabularies:
    """Build them from a training split's texts; no sources where nothing is read.

    Raises:
        UserError: one of them would be empty.
    """
    return Vocabularies(
        _train(recipe.tokenizer, targets, "tokenizer"),
        None if sources is None else _train(recipe.source_tokenizer, sources, "source_tokenizer"),
    )


def _train(config: TokenizerConfig, texts: Iterable[str], section: str) -> Tokenizer:
    tokenizer = _build(config, texts)
    if len(tokenizer) <= len(SPECIAL):
        raise UserError(
            f"{section}: no token of the training split is left in the vocabulary with "
            f"kind={config.kind}, min_count={config.min_count}, size={config.size}"
        )
    return tokenizer


def _build(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    match config.kind:
        case "captions":
            return Tokenizer.captions(texts, min_count=config.min_count)
        case "words":
            return Tokenizer.words(texts, min_count=config.min_count, lowercase=True)
        case "characters":
            return Tokenizer.characters(texts, min_count=config.min_count)
        case "subwords":
            return Tokenizer.subwords(texts, size=max(config.size, len(SPECIAL)))
        case "labels":
            return Tokenizer.labels(texts, size=config.size)
