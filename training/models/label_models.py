"""Models that predict labels: the shared output layer, the text classifier and the video tagger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from intertitle.training.config.models import CellKind
from intertitle.training.data.batch import Batch
from intertitle.training.data.task import Task
from intertitle.training.data.tokenizer import PAD_ID, UNK_ID
from intertitle.training.models.base import Model
from intertitle.training.models.captioners.inject import Standardize
from intertitle.training.models.layers import Dropout, order_source
from intertitle.training.models.rnn import BidirectionalRNN, RNNStack


class LabelModel(Model):
    """A model that predicts labels with one linear layer.

    Args:
        vocabulary: V, number of labels.
        hidden_size: size of the input of the linear layer.
        dropout: dropout probability of that input.
    """

    def __init__(self, vocabulary: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.output = nn.Linear(hidden_size, vocabulary)
        self.output_dropout = Dropout(dropout)

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.output(self.output_dropout(hidden))
        return logits

    def vocabulary_parameters(self) -> dict[str, Literal["source", "target"]]:
        sides: dict[str, Literal["source", "target"]] = {
            "embedding.weight": "source",
            "output.weight": "target",
            "output.bias": "target",
        }
        return {name: sides[name] for name, _ in self.named_parameters() if name in sides}


class Classifier(LabelModel):
    """A text classifier: embedding, recurrent layers, pooling, softmax.

    Args:
        vocabulary: V, number of labels.
        source_vocabulary: size of the vocabulary of the text.
        cell: kind of the recurrent cells.
        num_layers: number of recurrent layers.
        embedding_size: E.
        hidden_size: H, size of each direction.
        dropout: dropout probability of embeddings, between layers and of the pooled output.
        bidirectional: whether the text is read in both directions.
        pooling: method to reduce the outputs to one vector: "last" takes the output at the last
            token, with the backward state after the first token; "max" takes the maximum of each
            unit (Lai et al. 2015).
        word_dropout: share of the tokens that training replaces by <unk> (Iyyer et al. 2015 remove
            them), so that no single token decides.
    """

    task = Task("nothing", has_source=True, output="label")

    def __init__(
        self,
        vocabulary: int,
        source_vocabulary: int,
        *,
        cell: CellKind,
        num_layers: int,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        bidirectional: bool,
        pooling: Literal["last", "max"],
        word_dropout: float,
    ) -> None:
        super().__init__(vocabulary, hidden_size * (1 + bidirectional), dropout)
        self.embedding = nn.Embedding(source_vocabulary, embedding_size, padding_idx=PAD_ID)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.dropout = Dropout(dropout)
        kind = BidirectionalRNN if bidirectional else RNNStack
        self.reader = kind(cell, embedding_size, hidden_size, num_layers, dropout)
        self.pooling = pooling
        self.word_dropout = word_dropout

    def forward(self, batch: Batch) -> Tensor:
        source, lengths = order_source(batch)
        if self.training and self.word_dropout:
            is_hidden = torch.rand(source.shape, device=source.device) < self.word_dropout
            source = source.masked_fill(is_hidden & (source != PAD_ID), UNK_ID)
        words = self.dropout(self.embedding(source))
        if isinstance(self.reader, BidirectionalRNN):
            outputs, last = self.reader(words, lengths)
        else:
            outputs, _ = self.reader(words)
            last = outputs.take_along_dim((lengths - 1)[:, None, None], 1)[:, 0]
        if self.pooling == "max":
            is_padding = torch.arange(outputs.shape[1], device=lengths.device) >= lengths[:, None]
            last = outputs.masked_fill(is_padding[..., None], -torch.inf).amax(1)
        pooled: Tensor = last[:, None]
        return pooled


class _Projection(nn.Module):
    """Standardize and project features, [..., D] -> [..., E]."""

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
    """A tagger of video frames: projection, recurrent layers, a softmax per frame.

    The frames are read as differences, as in `S2VT` and for the same reason: the first frame is
    read unchanged, each following frame as its difference from the frame before it.

    Args:
        vocabulary: V, number of labels.
        feature_dim: D.
        cell: kind of the recurrent cells.
        num_layers: number of recurrent layers.
        embedding_size: E, size of a projected frame.
        hidden_size: H, size of each direction.
        dropout: dropout probability of projected frames, between layers and of the outputs.
        bidirectional: whether the frames are read in both directions; otherwise a label does not
            depend on later frames.
        feature_dropout: dropout probability of the standardized features.
    """

    task = Task("pooled", has_source=False, output="label_per_frame")

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
        kind = BidirectionalRNN if bidirectional else RNNStack
        self.reader = kind(cell, embedding_size, hidden_size, num_layers, dropout)

    def fit_normalizer(self, examples: Sequence[Tensor]) -> None:
        self.frames.standardize.fit(torch.cat(list(examples)))
        changes = torch.cat([frames.diff(dim=0) for frames in examples])
        if len(changes):
            self.changes.standardize.fit(changes)

    def forward(self, batch: Batch) -> Tensor:
        first, changes = batch.features[:, :1], batch.features.diff(dim=1)
        frames = torch.cat([self.frames(first), self.changes(changes)], 1)
        if isinstance(self.reader, BidirectionalRNN):
            outputs: Tensor = self.reader(frames, batch.frame_lengths)[0]
        else:
            outputs = self.reader(frames)[0]
        return outputs
