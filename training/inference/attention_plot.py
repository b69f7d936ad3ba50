"""Figures of attention weights over source tokens and over frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.nn.functional import interpolate

# Number of photograph panels per row.
COLUMNS = 5
# Height of a panel in inches.
_PHOTOGRAPH, _FRAME = 1.6, 1.1
# Height of the text line above a panel and of the gap around it, as shares of the panel's height.
_LINE, _GAP = 0.16, 0.06
# Colours of the heat map, and its opacity where the attention weight is largest.
_COLOURS, _OPACITY = "turbo", 0.6
# Part of the colours that is used: the last ones are dark.
_BRIGHT = 0.9
# Opacity of a frame without attention, where attention is to whole frames.
_FAINT = 0.12
# Height of the legend and width of its colours, in inches.
_LEGEND, _LEGEND_WIDTH = 0.32, 1.2
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
    """Plot attention weights as heat maps over frames (as figure 3 of Xu et al. 2015).

    The frames themselves come first. A photograph then gets one panel per word. A video gets one
    panel per word and frame, with the frame's share of the attention above it; a row holds as many
    words as fit into `MAX_FRAMES` panels. A word that occurs more than once has one panel, or one
    per frame, with the mean of its weights. Where attention is to whole frames, a single cell each,
    those with little attention fade into white instead.

    Args:
        frames: input frames, uint8, [T, H, W, 3]; for a video the `MAX_FRAMES` frames with the
            largest weights are drawn.
        words: L generated words.
        weights: attention weights, [L, T, cells]; the cells are a square grid on each frame in
            row-major order, and the weights of a word add up to 1.
    """
    words, weights = merge_repeated(words, weights)
    num_frames = weights.shape[1]
    frame_indices = np.sort(np.argsort(-weights.sum((0, 2)), kind="stable")[:MAX_FRAMES])
    panels = [
        (f"frame {frame + 1}" if num_frames > 1 else "photograph", frames[frame])
        for frame in frame_indices
    ]
    side = math.isqrt(weights.shape[2])
    for word, word_weights in zip(words, weights, strict=True):
        for frame in frame_indices:
            # Weights are scaled per word, so that each word has a place of full colour.
            grid = word_weights[frame].reshape(side, side) / word_weights.max()
            share = f" {100 * word_weights[frame].sum():.0f} %" if num_frames > 1 else ""
            panels.append((f"{word}{share}", overlay(frames[frame], grid)))
    columns = COLUMNS
    if num_frames > 1:
        columns = MAX_FRAMES // len(frame_indices) * len(frame_indices)
    legend = _legend_colours(is_faded=side == 1)
    return _draw_panels(panels, columns, _FRAME if num_frames > 1 else _PHOTOGRAPH, legend)


def merge_repeated(
    words: Sequence[str], weights: NDArray[np.float32]
) -> tuple[list[str], NDArray[np.float32]]:
    """Merge the entries of words that occur more than once.

    Args:
        words: L words.
        weights: weights of each word, [L, ...].

    Returns:
        The different words in the order of their first occurrence, with their number if it is above
        1, and the means of their weights.
    """
    positions: dict[str, list[int]] = {}
    for position, word in enumerate(words):
        positions.setdefault(word, []).append(position)
    labels = [word if len(at) == 1 else f"{word} ({len(at)}×)" for word, at in positions.items()]
    return labels, np.stack([weights[at].mean(0) for at in positions.values()])


def overlay(frame: NDArray[np.uint8], grid: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw a smooth heat map of attention weights over a frame; fade it if it is a single cell.

    Args:
        frame: input frame, uint8, [H, W, 3].
        grid: attention weight of each cell, 0..1, [rows, columns].

    Returns:
        The frame, tinted where weights are large and unchanged where they are 0, or faded; uint8,
        [H, W, 3].
    """
    if grid.size == 1:
        return _fade(frame, np.asarray(grid, np.float32))
    cells = torch.from_numpy(np.asarray(grid, np.float32))[None, None]
    smooth = interpolate(cells, frame.shape[:2], mode="bicubic", align_corners=False)
    return _tint(frame, smooth[0, 0].clamp(0, 1).numpy())


def _tint(frame: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blend the colours of a heat map, 0..1, [H, W], into a frame."""
    colours = colormaps[_COLOURS](_BRIGHT * heat)[..., :3] * 255
    opacity = _OPACITY * heat[..., None]
    tinted: NDArray[np.uint8] = (frame * (1 - opacity) + colours * opacity).round().astype(np.uint8)
    return tinted


def _fade(frame: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blend a frame into white, the more the smaller the heat is, 0..1, [H, W] or [1, 1]."""
    opacity = _FAINT + (1 - _FAINT) * heat[..., None]
    faded: NDArray[np.uint8] = (255 - (255 - frame) * opacity).round().astype(np.uint8)
    return faded


def _legend_colours(*, is_faded: bool) -> NDArray[np.uint8]:
    """Return the colours from no attention to the largest weight of a word, uint8, [1, N, 3]."""
    heat = np.linspace(0, 1, 64, dtype=np.float32)[None]
    if is_faded:
        return _fade(np.zeros((1, 64, 3), np.uint8), heat)
    return _tint(np.full((1, 64, 3), 255, np.uint8), heat)


def _draw_panels(
    panels: Sequence[tuple[str, NDArray[np.uint8]]],
    columns: int,
    panel_inches: float,
    legend_colours: NDArray[np.uint8],
) -> Figure:
    """Draw titled panels of the same size in rows, and a legend of colours below them."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    height, width = panels[0][1].shape[:2]
    gap, line = round(_GAP * height), round(_LINE * height)
    row_height, column_width = line + height + gap, width + gap
    inches = panel_inches / height
    legend = _LEGEND / inches
    total_width, total_height = columns * column_width, rows * row_height + legend
    figure = Figure(figsize=(total_width * inches, total_height * inches))
    # All panels share one axes object: separate ones would take seconds.
    axes = figure.add_axes((0, 0, 1, 1))
    for row in range(rows):
        strip = np.full((height, total_width, 3), 255, np.uint8)
        top = row * row_height + line
        for column, (title, panel) in enumerate(panels[row * columns : (row + 1) * columns]):
            left = column * column_width + gap // 2
            strip[:, left : left + width] = panel
            axes.text(
                left + width / 2,
                top - line / 2,
                title,
                fontsize=9 if panel_inches == _PHOTOGRAPH else 7,
                ha="center",
                va="center",
                parse_math=False,
            )
        axes.imshow(strip, extent=(0, total_width, top + height, top), aspect="auto")
    place = (total_width / 2, rows * row_height, legend, _LEGEND_WIDTH / inches)
    _draw_legend(figure, axes, legend_colours, *place)
    # Set the limits last, because imshow changes them.
    axes.set(xlim=(0, total_width), ylim=(total_height, 0))
    axes.set_axis_off()
    return figure


def _draw_legend(
    figure: Figure,
    axes: Axes,
    colours: NDArray[np.uint8],
    centre: float,
    top: float,
    height: float,
    width: float,
) -> None:
    """Draw the colours from no attention to the largest weight of a word, with their meaning."""
    left, right, middle = centre - width / 2, centre + width / 2, top + 0.4 * height
    box = (left, right, middle + 0.2 * height, middle - 0.2 * height)
    axes.imshow(colours, extent=box, aspect="auto")
    for x, text, alignment in ((left, "no attention ", "right"), (right, " its most", "left")):
        place: dict[str, Any] = {"transform": axes.transData, "ha": alignment, "va": "center"}
        figure.text(x, middle, text, fontsize=7, **place)
