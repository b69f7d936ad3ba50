"""A video in, a label for each of its frames out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.data.task import Task
from training.models.captioner import Standardize
from training.models.cells import Bidirectional, CellKind, Recurrent
from training.models.dropout import Dropout
from training.models.labels import LabelModel


class _Projection(nn.Module):
    """Features [..., D], standardised and projected, [..., E]."""

    def __init__(
        self, feature_dim: int, embedding_size: int, dropout: float, feature_dropout: float
    ) -> None:
        super().__init__()
        self.standardize = Standardize(feature_dim)
        self.project = nn.Sequential(
            Dropout(feature_dropout), nn.Linear(feature_dim, embedding_size), Dropout(dropout)
        )

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.project(self.standardize(features))
        return projected


class Tagger(LabelModel):
    """Frames, projected, recurrent layers, a softmax a frame.

    Frames come as changes, as in `S2VT`, and to the same end: the first as it is, each other as its
    difference from the one before.

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
        sizes = (feature_dim, embedding_size, dropout, feature_dropout)
        self.frames, self.changes = _Projection(*sizes), _Projection(*sizes)
        kind = Bidirectional if bidirectional else Recurrent
        self.reader = kind(cell, embedding_size, hidden_size, num_layers, dropout)

    def measure(self, examples: Sequence[Tensor]) -> None:
        self.frames.standardize.measure(torch.cat(list(examples)))
        changes = torch.cat([frames.diff(dim=0) for frames in examples])
        if len(changes):
            self.changes.standardize.measure(changes)

    def hidden(self, batch: Batch) -> Tensor:
        first, changes = batch.features[:, :1], batch.features.diff(dim=1)
        frames = torch.cat([self.frames(first), self.changes(changes)], 1)
        if isinstance(self.reader, Bidirectional):
            outputs: Tensor = self.reader(frames, batch.num_frames)[0]
        else:
            outputs = self.reader(frames)[0]
        return outputs
