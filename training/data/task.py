"""Tasks: the inputs and the output of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VisualInput = Literal["nothing", "pooled", "grid"]
OutputKind = Literal["sentence", "label", "label_per_frame", "stream"]


@dataclass(frozen=True, slots=True)
class Task:
    """The inputs and the output of a model.

    Attributes:
        visual_input: kind of the features of an item: none, one vector per frame, or a grid of
            vectors per frame.
        has_source: whether there is a source: a sentence to translate, a question, a text to
            classify.
        output: kind of the target. A "sentence" ends where the model predicts <eos>; a "label" is
            one token for the whole example, or for each frame; a "stream" is running text, whose
            lines follow each other.
    """

    visual_input: VisualInput
    has_source: bool
    output: OutputKind
