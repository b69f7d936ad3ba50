"""Figures of attention weights over source tokens and over frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Number of photograph panels per row.
COLUMNS = 5
# Height of a panel in inches.
_PHOTOGRAPH, _FRAME = 1.6, 1.1
# Height of the text line above a panel and of the gap around it, as shares of the panel's height.
_LINE, _GAP = 0.16, 0.06
# Darkening of cells that have no attention weight; 1 is black.
_VEIL = 0.75
# Maximum number of frames drawn for a video: those with the largest attention weights.
MAX_FRAMES = 8


def attention_over_text(
    source: Sequence[str], words: Sequence[str], weights: NDArray[np.float32]
) -> Figure:
    """Plot attention weights over source tokens as a heat map (figure 3 of Bahdanau et al. 2015).

    There is one row per generated word and one column per source token; darker cells have larger
    weights.

    Args:
        source: S source tokens.
        words: L generated words.
        weights: attention weights, [L, S]; each row adds up to 1.
    """
    size = (2.0 + 0.45 * len(source), 1.6 + 0.35 * len(words))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    heat_map = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    # Words with dollar signs must not be parsed as formulas.
    tick_style: dict[str, Any] = {"rotation": 60, "ha": "left", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(source)), source, parse_math=False, **tick_style)
    axes.set_yticks(range(len(words)), words, parse_math=False)
    axes.xaxis.tick_top()
    axes.set(xlabel="Source", ylabel="Output")
    figure.colorbar(heat_map, label="Weight", shrink=0.8)
    return figure


def attention_over_frames(
    frames: NDArray[np.uint8], words: Sequence[str], weights: NDArray[np.float32]
) -> Figure:
    """Plot attention weights over frames; brighter cells have larger weights.

    A photograph gets one panel per word (as figure 3 of Xu et al. 2015). A video gets one panel per
    word and frame, with the frame's share of the attention above it; a row holds as many words as
    fit into `MAX_FRAMES` panels.

    Args:
        frames: input frames, uint8, [T, H, W, 3]; for a video the `MAX_FRAMES` frames with the
            largest weights are drawn.
        words: L generated words.
        weights: attention weights, [L, T, cells]; the cells are a square grid on each frame in
            row-major order, and the weights of a word add up to 1.
    """
    num_words, num_frames = weights.shape[:2]
    side = math.isqrt(weights.shape[2])
    frame_indices = np.sort(np.argsort(-weights.sum((0, 2)), kind="stable")[:MAX_FRAMES])
    panels = [(word, frame) for word in range(num_words) for frame in frame_indices]
    columns = COLUMNS
    if num_frames > 1:
        columns = MAX_FRAMES // len(frame_indices) * len(frame_indices)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    height, width = frames.shape[1:3]
    gap, line = round(_GAP * height), round(_LINE * height)
    row_height, column_width = line + height + gap, width + gap
    inches = (_FRAME if num_frames > 1 else _PHOTOGRAPH) / height
    figure = Figure(figsize=(columns * column_width * inches, rows * row_height * inches))
    # All panels share one axes object: separate ones would take seconds.
    axes = figure.add_axes((0, 0, 1, 1))
    for row in range(rows):
        strip = np.full((height, columns * column_width, 3), 255, np.uint8)
        top = row * row_height + line
        for column, (word, frame) in enumerate(panels[row * columns : (row + 1) * columns]):
            left = column * column_width + gap // 2
            # Weights are scaled per word, so that cells with small weights are dark.
            grid = weights[word, frame].reshape(side, side) / weights[word].max()
            strip[:, left : left + width] = highlight(frames[frame], grid)
            share = f" {100 * weights[word, frame].sum():.0f} %" if num_frames > 1 else ""
            axes.text(
                left + width / 2,
                top - line / 2,
                f"{words[word]}{share}",
                fontsize=9 if num_frames == 1 else 7,
                ha="center",
                va="center",
                parse_math=False,
            )
        axes.imshow(strip, extent=(0, columns * column_width, top + height, top), aspect="auto")
    # Set the limits last, because imshow changes them.
    axes.set(xlim=(0, columns * column_width), ylim=(rows * row_height, 0))
    axes.set_axis_off()
    return figure


def highlight(frame: NDArray[np.uint8], grid: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Darken the parts of a frame that have small attention weights.

    Args:
        frame: input frame, uint8, [H, W, 3].
        grid: attention weight of each cell, 0..1, [rows, columns].

    Returns:
        The darkened frame, uint8, [H, W, 3].
    """
    cells = (np.arange(size) * n // size for size, n in zip(frame.shape, grid.shape, strict=False))
    light = 1 - _VEIL * (1 - grid[np.ix_(*cells)])
    return (frame * light[..., None]).astype(np.uint8)
