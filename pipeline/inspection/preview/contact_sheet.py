"""Draw a contact sheet: one picture with the frames that features were computed from."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font_names
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from intertitle.pipeline.corpus import clean_text
from intertitle.pipeline.inspection.preview.item_samples import ItemSample

Style = Literal["normal", "italic"]

_PAPER, _INK, _FADED, _FILM, _EDGE, _ALARM = (
    "#f4efe4",
    "#1d1a16",
    "#857c6d",
    "#12110f",
    "#f0b64a",
    "#a8321f",
)
# Lengths are in inches, and y increases downwards.
_DPI = 150
_MARGIN, _HEADER, _GAP = 0.5, 1.15, 0.24
_FRAME, _FRAME_GAP, _BAND, _TEXT = 1.12, 0.07, 0.23, 3.1
_PHOTO, _BORDER, _PHOTO_TEXT = 1.7, 0.07, 2.6
_POINT = 1 / 72

# Fonts for scripts that matplotlib's own fonts lack. Without them, such glyphs are drawn as boxes.
_MORE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Devanagari")


def contact_sheet(samples: Sequence[ItemSample], title: str, subtitle: str, format: str) -> bytes:
    """Draw a contact sheet.

    Args:
        samples: one or more items.
        title: title, in large letters.
        subtitle: line below the title.
        format: file format, "png", "pdf" or "svg".

    Returns:
        The bytes of the file.
    """
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A character for which no installed font has a glyph is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        sheet = _Sheet(samples, title, subtitle)
        sheet.figure.savefig(file, format=format)
    return file.getvalue()


def wrap(text: str, width: float, measure: Callable[[str], float], max_lines: int) -> list[str]:
    """Break a text into lines.

    Args:
        text: text to break.
        width: maximum width of a line.
        measure: function that returns the width of a line.
        max_lines: maximum number of lines; a longer text is cut and ends in an ellipsis.
    """
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if measure(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and measure(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    if len(lines) > max_lines:
        last = lines[max_lines - 1]
        while last and measure(last + " …") > width:
            last = last[:-1]
        lines = [*lines[: max_lines - 1], f"{last.rstrip()} …"]
    return lines


class _Sheet:
    """A contact sheet while it is drawn.

    A row holds one film strip, or two photographs if there are no videos.
    """

    def __init__(self, rows: Sequence[ItemSample], title: str, subtitle: str) -> None:
        widest = max([1, *(len(row.pixels) for row in rows)])
        self._is_film = any(row.is_film for row in rows)
        columns = 1 if self._is_film else min(2, len(rows))
        if self._is_film:
            self._picture = widest * (_FRAME + _FRAME_GAP) + _FRAME_GAP
            height, text = _FRAME + 2 * _BAND, _TEXT
        else:
            self._picture, height, text = _PHOTO, _PHOTO, _PHOTO_TEXT
        cell = self._picture + text + _GAP
        across = 2 * _MARGIN + columns * cell + (columns - 1) * _GAP
        down = _MARGIN + _HEADER + -(-len(rows) // columns) * (height + _GAP) + _MARGIN - _GAP
        self.figure = Figure(figsize=(across, down), dpi=_DPI, facecolor=_PAPER)
        self._renderer: Any = FigureCanvasAgg(self.figure).get_renderer()  # type: ignore[no-untyped-call]
        self._axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self._families = ["STIXGeneral", "DejaVu Sans"]
        self._families += [font for font in _MORE_FONTS if font in get_font_names()]
        self._text_width = text
        self._head(title, subtitle, across)
        for index, row in enumerate(rows):
            x = _MARGIN + index % columns * (cell + _GAP)
            self._cell(row, x, _MARGIN + _HEADER + index // columns * (height + _GAP), height)
        # Set last, because drawing an image changes the limits of the axes.
        self._axes.set(xlim=(0, across), ylim=(down, 0))
        self._axes.axis("off")

    def _head(self, title: str, subtitle: str, across: float) -> None:
        width = across - 2 * _MARGIN
        y = self._say(title, _MARGIN, _MARGIN - 0.08, width, 1, size=24, weight="bold")
        self._say(subtitle, _MARGIN, y + 0.04, width, 1, size=11, colour=_FADED)
        for y, thick in ((_MARGIN + 0.8, 1.6), (_MARGIN + 0.85, 0.5)):
            self._axes.plot([_MARGIN, across - _MARGIN], [y, y], color=_INK, linewidth=thick)

    def _cell(self, row: ItemSample, x: float, y: float, height: float) -> None:
        text_x = x if self._is_film else x + self._picture + _GAP
        picture_x = x + self._text_width + _GAP if self._is_film else x
        self._describe(row, text_x, y)
        if row.problem:
            side = self._picture if not self._is_film else _FRAME
            top = y if not self._is_film else y + _BAND
            self._box(
                picture_x, top, side, side, facecolor="none", edgecolor=_FADED, ls=(0, (4, 3))
            )
            self._axes.text(
                picture_x + side / 2,
                top + side / 2,
                "\n".join(self._lines(row.problem, side - 0.2, 3, self._font(10.5, "italic"))),
                ha="center",
                va="center",
                color=_ALARM,
                font=self._font(10.5, "italic"),
                parse_math=False,
            )
        elif row.is_film:
            self._film(row, picture_x, y)
        else:
            self._photo(row.pixels[0], picture_x, y, height)

    def _describe(self, row: ItemSample, x: float, y: float) -> None:
        width = self._text_width
        y = self._say(row.key, x, y, width, 2, size=13, weight="bold")
        facts = []
        if row.is_film:
            facts.append(f"{row.num_frames} frame{'s' * (row.num_frames != 1)}")
            if row.num_frames > len(row.pixels) > 0:
                facts.append(f"{len(row.pixels)} shown")
            if row.repeats.any():
                facts.append(f"{row.repeats.sum()} repeated")
        if facts:
            y = self._say(", ".join(facts), x, y, width, 1, size=9, colour=_FADED)
        if row.degraded:
            y = self._say(f"degraded: {row.degraded}", x, y, width, 2, size=9, colour=_ALARM)
        lines = 2 if self._is_film else 3
        for caption in row.captions:
            y = self._say(caption, x, y + 0.06, width, lines, size=11.5, style="italic")

    def _film(self, row: ItemSample, x: float, y: float) -> None:
        length = len(row.pixels) * (_FRAME + _FRAME_GAP) + _FRAME_GAP
        self._box(x, y, length, _FRAME + 2 * _BAND, facecolor=_FILM)
        holes = np.arange(x + 0.07, x + length - 0.1, 0.17)
        self._axes.add_collection(
            PatchCollection(
                [
                    Rectangle((hole, top), 0.085, 0.065)
                    for hole in holes
                    for top in (y + 0.045, y + _FRAME + 2 * _BAND - 0.11)
                ],
                facecolor=_PAPER,
                linewidth=0,
            )
        )
        for n, (pixels, repeated) in enumerate(zip(row.pixels, row.repeats, strict=True)):
            left = x + _FRAME_GAP + n * (_FRAME + _FRAME_GAP)
            self._image(pixels, left, y + _BAND, _FRAME, alpha=0.3 if repeated else 1.0)
            label = "repeat" if repeated else f"{row.times_s[n]:.2f} s"
            self._axes.text(
                left + _FRAME / 2,
                y + _BAND + _FRAME + 0.06,
                label,
                color=_EDGE,
                ha="center",
                va="center",
                font=self._font(7.5),
            )

    def _photo(self, pixels: NDArray[np.uint8], x: float, y: float, side: float) -> None:
        self._box(x, y, side, side, facecolor="white", edgecolor="#cfc7b6", linewidth=0.6)
        self._image(pixels, x + _BORDER, y + _BORDER, side - 2 * _BORDER)

    def _image(
        self, pixels: NDArray[np.uint8], x: float, y: float, side: float, alpha: float = 1.0
    ) -> None:
        extent = (x, x + side, y + side, y)
        self._axes.imshow(pixels, extent=extent, aspect="auto", alpha=alpha, zorder=2)

    def _box(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        self._axes.add_patch(Rectangle((x, y), width, height, **{"linewidth": 0.8, **style}))

    def _font(self, size: float, style: Style = "normal", weight: str = "normal") -> FontProperties:
        return FontProperties(family=self._families, size=size, style=style, weight=weight)

    def _lines(self, text: str, width: float, max_lines: int, font: FontProperties) -> list[str]:
        def measure(line: str) -> float:
            width, _, _ = self._renderer.get_text_width_height_descent(line, font, False)
            return float(width) / _DPI

        return wrap(clean_text(text), width, measure, max_lines)

    def _say(
        self,
        text: str,
        x: float,
        y: float,
        width: float,
        max_lines: int,
        *,
        size: float,
        colour: str = _INK,
        style: Style = "normal",
        weight: str = "normal",
    ) -> float:
        """Write lines of text from `y` downwards; return the y of the next line."""
        font = self._font(size, style, weight)
        height = 1.22 * size * _POINT
        for line in self._lines(text, width, max_lines, font):
            # Keys and captions are not formulas, even if they contain dollar signs.
            self._axes.text(
                x, y + 0.8 * height, line, font=font, color=colour, va="baseline", parse_math=False
            )
            y += height
        return y
