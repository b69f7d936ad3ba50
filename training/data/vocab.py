"""The tokenizers of a training, for targets and sources."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import Recipe
from intertitle.training.config.sections import TokenizerConfig
from intertitle.training.data.tokenizer import SPECIAL, Tokenizer


@dataclass(frozen=True, slots=True)
class Vocabs:
    """The tokenizers of a model.

    Attributes:
        target: tokenizer of the targets.
        source: tokenizer of the sources; None if the task has no source.
    """

    target: Tokenizer
    source: Tokenizer | None = None

    def to_json(self) -> str:
        """Serialize the tokenizers to JSON."""
        tokenizers = {"target": self.target, "source": self.source}
        return json.dumps(
            {
                name: tokenizer.to_json()
                for name, tokenizer in tokenizers.items()
                if tokenizer is not None
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Vocabs:
        """Load the tokenizers from the result of `to_json`."""
        return cls(**{name: Tokenizer.from_json(t) for name, t in json.loads(text).items()})


def build_vocabs(recipe: Recipe, targets: Iterable[str], sources: Iterable[str] | None) -> Vocabs:
    """Build the tokenizers from the texts of a training split.

    Args:
        recipe: recipe with the settings of the tokenizers.
        targets: target texts.
        sources: source texts; None if the task has no source.

    Raises:
        UserError: a vocabulary would be empty.
    """
    return Vocabs(
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
