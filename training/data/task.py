"""What a model reads and what it tells: the four shapes that all systems of the project share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sees = Literal["nothing", "pooled", "grid"]
Tells = Literal["sentence", "label", "label_per_frame", "stream"]


@dataclass(frozen=True, slots=True)
class Task:
    """The shape of a task.

    Attributes:
        sees: features of an item: none, a vector a frame, or a grid of vectors a frame.
        reads: whether there is a source: a sentence to translate, a question, a text to classify.
        tells: what a target is. A "sentence" ends where the model says so; a "label" is one word
            for the whole example, or for each frame; a "stream" is running text, whose lines
            follow each other.
    """

    sees: Sees
    reads: bool
    tells: Tells
