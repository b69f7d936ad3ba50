"""Visual question answering (Antol et al. 2015, "Visual Question Answering")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from intertitle.training.config.models import CellKind
from intertitle.training.data.batch import Batch
from intertitle.training.data.task import Task
from intertitle.training.data.tokenizer import PAD_ID
from intertitle.training.models.captioners.inject import Standardize, mean_over_frames
from intertitle.training.models.label_models import LabelModel
from intertitle.training.models.layers import Dropout, order_source
from intertitle.training.models.rnn import RNNStack


class VQA(LabelModel):
    """A model that predicts an answer from an image and a question.

    It is the paper's "deeper LSTM Q + norm I": question and image are projected to the same size
    and multiplied element by element, and the answer is one of the most common answers.

    A question is represented by the states of all layers after its last token, hidden and cell
    states concatenated, as in the paper. The feature of an image is standardized where the paper
    divides it by its length ("norm I"): it has a common scale as well, and what all images share
    does not hide their differences.

    Args:
        vocabulary: V, number of answers.
        source_vocabulary: size of the vocabulary of the questions.
        feature_dim: D.
        cell: kind of the recurrent cells that read the question.
        num_layers: number of recurrent layers.
        embedding_size: E, size of a token's embedding.
        hidden_size: H.
        fused_size: size that question and image are projected to and multiplied in.
        dropout: dropout probability of embeddings, between layers, and of the fused vector.
        uses: inputs that the answer is predicted from; a single input is not multiplied.
        feature_dropout: dropout probability of the standardized image feature.
    """

    task = Task("pooled", has_source=True, output="label")

    def __init__(
        self,
        vocabulary: int,
        source_vocabulary: int,
        feature_dim: int,
        *,
        cell: CellKind,
        num_layers: int,
        embedding_size: int,
        hidden_size: int,
        fused_size: int,
        dropout: float,
        uses: Literal["both", "question", "image"],
        feature_dropout: float,
    ) -> None:
        super().__init__(vocabulary, fused_size, dropout)
        self.uses = uses
        if uses != "image":
            # Initialized from N(0, 1). With the small initial embeddings of the generators, the
            # vectors of different questions stay similar for so many steps that the model learns
            # only what image and question predict separately.
            self.embedding = nn.Embedding(source_vocabulary, embedding_size, padding_idx=PAD_ID)
            self.dropout = Dropout(dropout)
            self.reader = RNNStack(cell, embedding_size, hidden_size, num_layers, dropout)
            state_size = num_layers * hidden_size * (2 if cell == "lstm" else 1)
            self.project_question = nn.Linear(state_size, fused_size)
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
                fused = self._question(batch)
            case "image":
                fused = self._image(batch)
            case "both":
                fused = self._question(batch) * self._image(batch)
        return fused[:, None]

    def _question(self, batch: Batch) -> Tensor:
        """Encode the questions, [B, fused]."""
        source, lengths = order_source(batch)
        words = self.dropout(self.embedding(source))
        _, state = self.reader.read(words, lengths, padded=batch.source_padded)
        layers = [*state.h] if state.c is None else [*state.h, *state.c]
        return torch.tanh(self.project_question(torch.cat(layers, 1)))

    def _image(self, batch: Batch) -> Tensor:
        """Encode the images, [B, fused]."""
        return torch.tanh(self.project_image(self.standardize(mean_over_frames(batch))))
