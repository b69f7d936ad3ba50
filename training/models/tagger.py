"""A video in, a label for each of its frames out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.data.task import Task
from training.models.captioner import Standardize
from training.models.cells import Bidirectional, CellKind, Recurrent
from training.models.labels import LabelModel


class Tagger(LabelModel):
    """Frames, projected, recurrent layers, a softmax a frame.

    Args:
        vocabulary: V, of the labels.
        feature_dim: D.
        cell: of the layers.
        num_layers: of them.
        embedding_size: E, of a projected frame.
        hidden_size: H, of each direction.
        dropout: on projected frames, between layers and on the outputs.
        bidirectional: whether it reads both ways; otherwise a label knows no later frame.
        feature_dropout: on the frames' features as they come.
    """

    task = Task("pooled", reads=False, tells="label_per_frame")

    def __init__(
        self,
        vocabulary: int,
        feature_dim: int,
        *,
        cell: CellKind,
        num_layers: int,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        bidirectional: bool,
        feature_dropout: float,
    ) -> None:
        super().__init__(vocabulary, hidden_size * (1 + bidirectional), dropout)
        self.standardize = Standardize(feature_dim)
        self.projection = nn.Sequential(
            nn.Dropout(feature_dropout), nn.Linear(feature_dim, embedding_size), nn.Dropout(dropout)
        )
        kind = Bidirectional if bidirectional else Recurrent
        self.reader = kind(cell, embedding_size, hidden_size, num_layers, dropout)

    def measure(self, examples: Sequence[Tensor]) -> None:
        self.standardize.measure(torch.cat(list(examples)))

    def hidden(self, batch: Batch) -> Tensor:
        frames = self.projection(self.standardize(batch.features))
        if isinstance(self.reader, Bidirectional):
            outputs: Tensor = self.reader(frames, batch.num_frames)[0]
        else:
            outputs = self.reader(frames)[0]
        return outputs
