"""Pictures of where a model looked for each of its words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Panels of photographs side by side.
COLUMNS = 5
# Frames drawn of a video at most, those that were looked at most.
MAX_FRAMES = 8


def attention_over_text(
    source: Sequence[str], words: Sequence[str], weights: NDArray[np.float32]
) -> Figure:
    """A row a word, a column a token of the source, the darker the more it was looked at (as figure
    3 of Bahdanau et al. 2015).

    Args:
        source: S tokens.
        words: L words.
        weights: [L, S]; those of a word add up to 1.
    """
    size = (2.0 + 0.45 * len(source), 1.6 + 0.35 * len(words))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), source, rotation=60, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(words)), words)
    axes.xaxis.tick_top()
    axes.set(xlabel="Source", ylabel="Told")
    figure.colorbar(drawn, label="Weight", shrink=0.8)
    return figure


def attention_over_frames(
    frames: NDArray[np.uint8], words: Sequence[str], weights: NDArray[np.float32]
) -> Figure:
    """What was looked at, the brighter the more: a panel a word on a photograph (as figure 3 of Xu
    et al. 2015), a row a word on a video, with the share of each frame above it.

    Args:
        frames: [T, H, W, 3]; of a video the `MAX_FRAMES` with the largest weights are drawn.
        words: L words.
        weights: of a square grid of cells on each frame, row by row, [L, T, cells]; those of a word
            add up to 1.
    """
    num_words, num_frames = weights.shape[:2]
    side = math.isqrt(weights.shape[2])
    drawn = np.sort(np.argsort(-weights.sum((0, 2)), kind="stable")[:MAX_FRAMES])
    columns = len(drawn) if num_frames > 1 else min(COLUMNS, num_words)
    rows = num_words if num_frames > 1 else -(-num_words // columns)
    figure = Figure(figsize=(1.8 * columns, 2.0 * rows), layout="constrained")
    panels = [(word, frame) for word in range(num_words) for frame in drawn]
    for place, (word, frame) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.set_axis_off()
        height, width = frames.shape[1:3]
        axes.imshow(frames[frame], extent=(0, width, height, 0))
        # One scale a word: what it hardly looked at is dark.
        grid = weights[word, frame].reshape(side, side) / weights[word].max()
        axes.imshow(
            np.zeros((side, side)),
            cmap="gray",
            alpha=0.75 * (1 - grid),
            extent=(0, width, height, 0),
            interpolation="nearest",
        )
        share = f" {100 * weights[word, frame].sum():.0f} %" if num_frames > 1 else ""
        axes.set_title(f"{words[word]}{share}", fontsize=9)
    return figure
