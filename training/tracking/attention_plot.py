"""Pictures of where a model looked for each of its words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Panels of photographs side by side.
COLUMNS = 5
# The height of a panel in inches.
_PHOTOGRAPH, _FRAME = 1.6, 1.1
# Of a panel's height: the line above it, and what is left free round it.
_LINE, _GAP = 0.16, 0.06
# How dark it is where a model did not look; 1 is black.
_VEIL = 0.75
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
    # Words are no formulas, whatever dollars they hold.
    turned: dict[str, Any] = {"rotation": 60, "ha": "left", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(source)), source, parse_math=False, **turned)
    axes.set_yticks(range(len(words)), words, parse_math=False)
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
    height, width = frames.shape[1:3]
    gap, line = round(_GAP * height), round(_LINE * height)
    down, across = line + height + gap, width + gap
    inches = (_FRAME if num_frames > 1 else _PHOTOGRAPH) / height
    figure = Figure(figsize=(columns * across * inches, rows * down * inches))
    # One for all panels: each of its own, they would take seconds.
    axes = figure.add_axes((0, 0, 1, 1))
    panels = [(word, frame) for word in range(num_words) for frame in drawn]
    for row in range(rows):
        strip = np.full((height, columns * across, 3), 255, np.uint8)
        top = row * down + line
        for column, (word, frame) in enumerate(panels[row * columns : (row + 1) * columns]):
            left = column * across + gap // 2
            # One scale a word: what it hardly looked at is dark.
            grid = weights[word, frame].reshape(side, side) / weights[word].max()
            strip[:, left : left + width] = lit(frames[frame], grid)
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
        axes.imshow(strip, extent=(0, columns * across, top + height, top), aspect="auto")
    # Last: pictures set limits of their own.
    axes.set(xlim=(0, columns * across), ylim=(rows * down, 0))
    axes.set_axis_off()
    return figure


def lit(frame: NDArray[np.uint8], grid: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A frame, [H, W, 3], that is dark where it was not looked at.

    Args:
        frame: what was seen.
        grid: how much each cell of it was looked at, 0..1, [rows, columns].
    """
    cells = (np.arange(size) * n // size for size, n in zip(frame.shape, grid.shape, strict=False))
    light = 1 - _VEIL * (1 - grid[np.ix_(*cells)])
    return (frame * light[..., None]).astype(np.uint8)
