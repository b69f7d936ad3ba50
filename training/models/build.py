"""A configuration becomes a model: the only such place."""

from __future__ import annotations

from typing import Any

from training.config import ModelConfig
from training.models.captioner import MeanPoolVideo, ShowAndTell
from training.models.generator import Generator
from training.models.s2vt import S2VT


def build_model(config: ModelConfig, feature_dim: int, vocabulary: int) -> Generator[Any]:
    """Make a model with fresh weights, drawn from torch's generator.

    Args:
        config: of the model.
        feature_dim: D, of the frames' features.
        vocabulary: V, the number of words.
    """
    kinds: dict[str, type[Generator[Any]]] = {
        "show_and_tell": ShowAndTell,
        "mean_pool_video": MeanPoolVideo,
        "s2vt": S2VT,
    }
    return kinds[config.kind](
        feature_dim=feature_dim,
        vocabulary=vocabulary,
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        dropout=config.dropout,
        feature_dropout=config.feature_dropout,
    )
