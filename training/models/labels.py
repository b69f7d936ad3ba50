"""What models that answer with labels share: the layer that tells them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from training.models.dropout import Dropout
from training.models.generator import Model


class LabelModel(Model):
    """A model whose labels are told by one linear layer.

    Args:
        vocabulary: V, of the labels.
        hidden_size: of what they are told from.
        dropout: on that.
    """

    def __init__(self, vocabulary: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.output = nn.Linear(hidden_size, vocabulary)
        self.output_dropout = Dropout(dropout)

    def logits(self, hidden: Tensor) -> Tensor:
        told: Tensor = self.output(self.output_dropout(hidden))
        return told

    def vocabulary_parameters(self) -> dict[str, Literal["source", "target"]]:
        sides: dict[str, Literal["source", "target"]] = {
            "embedding.weight": "source",
            "output.weight": "target",
            "output.bias": "target",
        }
        return {name: sides[name] for name, _ in self.named_parameters() if name in sides}
