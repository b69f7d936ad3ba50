"""An image and a question in, an answer out (Antol et al. 2015, "Visual Question Answering")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.data.task import Task
from training.data.tokenizer import PAD_ID
from training.models.captioner import Standardize, mean_over_frames
from training.models.cells import CellKind, Recurrent
from training.models.dropout import Dropout
from training.models.labels import LabelModel
from training.models.words import source_steps


class VQA(LabelModel):
    """The paper's "deeper LSTM Q + norm I": question and image, each brought to one size, are
    multiplied element by element, and the answer is one of the commonest.

    A question is what all layers remember after its last word, cells beside outputs, as in the
    paper. An image's feature is standardised where the paper divides it by its length ("norm I"):
    so it is of one scale too, and what all images share does not cover what tells them apart.

    Args:
        vocabulary: V, of the answers.
        source_vocabulary: of the questions.
        feature_dim: D.
        cell: of the layers that read the question.
        num_layers: of them.
        embedding_size: E, of a word.
        hidden_size: H.
        fused_size: in which question and image are multiplied.
        dropout: on words, between layers and on what an answer is told from.
        uses: what it answers from; one alone is not multiplied.
        feature_dropout: on the image's feature as it comes.
    """

    task = Task("pooled", reads=True, tells="label")

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
            # Drawn from N(0, 1). Small embeddings, as models that write begin with, leave questions
            # alike for so long that only what each of image and question says alone is learned.
            self.embedding = nn.Embedding(source_vocabulary, embedding_size, padding_idx=PAD_ID)
            self.dropout = Dropout(dropout)
            self.reader = Recurrent(cell, embedding_size, hidden_size, num_layers, dropout)
            state_size = num_layers * hidden_size * (2 if cell == "lstm" else 1)
            self.project_question = nn.Linear(state_size, fused_size)
        if uses != "question":
            self.standardize = Standardize(feature_dim)
            self.project_image = nn.Sequential(
                Dropout(feature_dropout), nn.Linear(feature_dim, fused_size)
            )

    def measure(self, examples: Sequence[Tensor]) -> None:
        if self.uses != "question":
            self.standardize.measure(torch.cat(list(examples)))

    def hidden(self, batch: Batch) -> Tensor:
        match self.uses:
            case "question":
                fused = self._question(batch)
            case "image":
                fused = self._image(batch)
            case "both":
                fused = self._question(batch) * self._image(batch)
        return fused[:, None]

    def _question(self, batch: Batch) -> Tensor:
        """[B, fused]."""
        source, lengths = source_steps(batch)
        _, state = self.reader.read(self.dropout(self.embedding(source)), lengths)
        layers = [*state.h] if state.c is None else [*state.h, *state.c]
        return torch.tanh(self.project_question(torch.cat(layers, 1)))

    def _image(self, batch: Batch) -> Tensor:
        """[B, fused]."""
        return torch.tanh(self.project_image(self.standardize(mean_over_frames(batch))))
