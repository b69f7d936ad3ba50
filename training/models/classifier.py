"""A sentence in, a label out, such as whether a review likes its film."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.data.task import Task
from training.data.tokenizer import PAD_ID, UNK_ID
from training.models.cells import Bidirectional, CellKind, Recurrent
from training.models.dropout import Dropout
from training.models.labels import LabelModel
from training.models.words import source_steps


class Classifier(LabelModel):
    """Embedding, recurrent layers, pooling, softmax.

    Args:
        vocabulary: V, of the labels.
        source_vocabulary: of the words.
        cell: of the layers.
        num_layers: of them.
        embedding_size: E.
        hidden_size: H, of each direction.
        dropout: on embeddings, between layers and on what is pooled.
        bidirectional: whether it reads both ways.
        pooling: what of the outputs the label is told from: the last, with the backward state
            after the first word; or the largest of each (Lai et al. 2015).
        word_dropout: share of the words that training replaces by <unk> (Iyyer et al. 2015 leave
            them out), so that no word alone decides.
    """

    task = Task("nothing", reads=True, tells="label")

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
        kind = Bidirectional if bidirectional else Recurrent
        self.reader = kind(cell, embedding_size, hidden_size, num_layers, dropout)
        self.pooling = pooling
        self.word_dropout = word_dropout

    def hidden(self, batch: Batch) -> Tensor:
        source, lengths = source_steps(batch)
        if self.training and self.word_dropout:
            is_hidden = torch.rand(source.shape, device=source.device) < self.word_dropout
            source = source.masked_fill(is_hidden & (source != PAD_ID), UNK_ID)
        words = self.dropout(self.embedding(source))
        if isinstance(self.reader, Bidirectional):
            outputs, last = self.reader(words, lengths)
        else:
            outputs, _ = self.reader(words)
            last = outputs.take_along_dim((lengths - 1)[:, None, None], 1)[:, 0]
        if self.pooling == "max":
            beyond = torch.arange(outputs.shape[1], device=lengths.device) >= lengths[:, None]
            last = outputs.masked_fill(beyond[..., None], -torch.inf).amax(1)
        pooled: Tensor = last[:, None]
        return pooled
