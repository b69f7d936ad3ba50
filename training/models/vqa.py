"""Visual question answering: multiplied vectors (Antol et al. 2015), stacked attention (Yang et al.
2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from intertitle.training.config.models import CellKind
from intertitle.training.data.batch import Batch
from intertitle.training.data.task import Task
from intertitle.training.data.tokenizer import PAD_ID
from intertitle.training.models.attention import AdditiveAttention
from intertitle.training.models.captioners.inject import (
    Standardize,
    mean_over_frames,
    standardize_cells,
)
from intertitle.training.models.label_models import LabelModel
from intertitle.training.models.layers import Dropout, order_source
from intertitle.training.models.rnn import RNNStack


class QuestionModel(LabelModel):
    """Base class of models that predict an answer from an image and a question.

    A question is represented by the states of all layers after its last token, hidden and cell
    states concatenated and projected, as in "deeper LSTM Q" of Antol et al. 2015.

    Args:
        vocabulary: V, number of answers.
        source_vocabulary: size of the vocabulary of the questions.
        cell: kind of the recurrent cells that read the question.
        num_layers: number of recurrent layers.
        embedding_size: E, size of a token's embedding.
        hidden_size: H.
        fused_size: size of the vectors that question and image are projected to.
        dropout: dropout probability of embeddings, between layers, and of the fused vector.
        reads: whether the model reads the question.
    """

    def __init__(
        self,
        vocabulary: int,
        source_vocabulary: int,
        *,
        cell: CellKind,
        num_layers: int,
        embedding_size: int,
        hidden_size: int,
        fused_size: int,
        dropout: float,
        reads: bool = True,
    ) -> None:
        super().__init__(vocabulary, fused_size, dropout)
        if reads:
            # Initialized from N(0, 1). With the small initial embeddings of the generators, the
            # vectors of different questions stay similar for so many steps that the model learns
            # only what image and question predict separately.
            self.embedding = nn.Embedding(source_vocabulary, embedding_size, padding_idx=PAD_ID)
            self.dropout = Dropout(dropout)
            self.reader = RNNStack(cell, embedding_size, hidden_size, num_layers, dropout)
            state_size = num_layers * hidden_size * (2 if cell == "lstm" else 1)
            self.project_question = nn.Linear(state_size, fused_size)

    def read_question(self, batch: Batch) -> Tensor:
        """Encode the questions, [B, fused]."""
        source, lengths = order_source(batch)
        words = self.dropout(self.embedding(source))
        _, state = self.reader.read(words, lengths, padded=batch.source_padded)
        layers = [*state.h] if state.c is None else [*state.h, *state.c]
        return torch.tanh(self.project_question(torch.cat(layers, 1)))


class VQA(QuestionModel):
    """A model that multiplies question and image.

    It is the "deeper LSTM Q + norm I" of Antol et al. 2015, "Visual Question Answering": question
    and image are projected to the same size and multiplied element by element, and the answer is
    one of the most common answers.

    The feature of an image is standardized where the paper divides it by its length ("norm I"): it
    has a common scale as well, and what all images share does not hide their differences.

    Args:
        feature_dim: D.
        fused_size: size that question and image are projected to and multiplied in.
        uses: inputs that the answer is predicted from; a single input is not multiplied.
        feature_dropout: dropout probability of the standardized image feature.
        sizes: further arguments of `QuestionModel`.
    """

    task = Task("pooled", has_source=True, output="label")

    def __init__(
        self,
        *,
        feature_dim: int,
        fused_size: int,
        uses: Literal["both", "question", "image"],
        feature_dropout: float,
        **sizes: Any,
    ) -> None:
        super().__init__(fused_size=fused_size, reads=uses != "image", **sizes)
        self.uses = uses
        if uses != "question":
            self.standardize = Standardize(feature_dim)
            self.project_image = nn.Sequential(
                Dropout(feature_dropout), nn.Linear(feature_dim, fused_size)
            )

    def fit_normalizer(self, examples: Sequence[Tensor]) -> None:
        if self.uses != "question":
            self.standardize.fit(torch.cat(list(examples)))

    def forward(self, batch: Batch) -> Tensor:
        match self.uses:
            case "question":
                fused = self.read_question(batch)
            case "image":
                fused = self._image(batch)
            case "both":
                fused = self.read_question(batch) * self._image(batch)
        return fused[:, None]

    def _image(self, batch: Batch) -> Tensor:
        """Encode the images, [B, fused]."""
        return torch.tanh(self.project_image(self.standardize(mean_over_frames(batch))))


class StackedAttention(QuestionModel):
    """A model that attends to the cells of an image in several hops.

    Yang et al. 2016, "Stacked Attention Networks for Image Question Answering": the query of the
    first hop is the question. Each hop adds the weighted mean over the cells to its query, which
    becomes the query of the next hop, and the answer is predicted from the last sum. The frames of
    a video are treated as one image with the cells of all frames.

    Args:
        feature_dim: D.
        fused_size: size that the question and each cell are projected to.
        attention_size: size of the hidden layer that computes the scores of the cells.
        num_hops: number of hops.
        feature_dropout: dropout probability of the channels of the cells.
        sizes: further arguments of `QuestionModel`.
    """

    task = Task("grid", has_source=True, output="label")

    def __init__(
        self,
        *,
        feature_dim: int,
        fused_size: int,
        attention_size: int,
        num_hops: int,
        feature_dropout: float,
        **sizes: Any,
    ) -> None:
        super().__init__(fused_size=fused_size, **sizes)
        self.scale_cells = Standardize(feature_dim)
        self.channels = Dropout(feature_dropout)
        self.project_cells = nn.Linear(feature_dim, fused_size)
        self.hops = nn.ModuleList(
            AdditiveAttention(fused_size, fused_size, attention_size) for _ in range(num_hops)
        )

    def fit_normalizer(self, examples: Sequence[Tensor]) -> None:
        self.scale_cells.fit(torch.cat([example.flatten(0, 1) for example in examples]))

    def forward(self, batch: Batch) -> Tensor:
        return self._attend(batch)[0]

    def attention_hops(self, batch: Batch) -> Tensor:
        return self._attend(batch)[1]

    def _attend(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sum that the answer is predicted from, [B, 1, fused], and the attention
        weights of each hop, [B, hops, S]."""
        cells, num_cells = standardize_cells(batch, self.scale_cells, self.channels)
        values = torch.tanh(self.project_cells(cells))
        query, weights = self.read_question(batch)[:, None], []
        for hop in self.hops:
            assert isinstance(hop, AdditiveAttention)
            context, hop_weights = hop(query, hop.build_memory(values, num_cells))
            query = query + context
            weights.append(hop_weights)
        return query, torch.cat(weights, 1)
