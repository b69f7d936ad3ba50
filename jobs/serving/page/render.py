"""HTML of answers. All texts of callers and models are escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from uuid import uuid4

from intertitle.jobs.serving.schemas import Attention, Candidate, Result, TokenProbability

# Represents a space within a subword.
_SPACE = "\u2581"
# Attention weights below are not shown, and bits at which a token has the full colour.
_MIN_WEIGHT, _MAX_BITS = 0.05, 9.0


def words(text: str) -> str:
    """Return a text that grows while it is generated; a screen reader reads what is added."""
    return f'<p class="it-text" role="status" aria-live="polite">{escape(text)}</p>'


def status(text: str) -> str:
    """Return a line that says what happened."""
    return f'<p class="it-status" role="status">{escape(text)}</p>'


def error(line: str) -> str:
    """Return the line of an error."""
    return f'<p class="it-error" role="alert">{escape(line)}</p>'


def notes(result: Result) -> str:
    """Return the warnings about an answer."""
    return "".join(f'<p class="it-note" role="note">{escape(w)}</p>' for w in result.warnings)


def bars(candidates: Sequence[Candidate], is_label: bool = False) -> str:
    """Return the outputs of a model as bars.

    Args:
        candidates: outputs, best first.
        is_label: whether the scores are log-probabilities of labels; otherwise a bar is the
            share of a candidate in the probability of those that are listed.
    """
    if not candidates:
        return ""
    shares = [math.exp(candidate.score - candidates[0].score) for candidate in candidates]
    scale = math.exp(candidates[0].score) if is_label else 1 / sum(shares)
    rows = "".join(
        f'<li><span class="it-label">{escape(candidate.text) or "(empty)"}</span>'
        f'<meter min="0" max="1" value="{share * scale:.4f}" aria-hidden="true"></meter>'
        f"<span>{100 * share * scale:.1f} %</span></li>"
        for candidate, share in zip(candidates, shares, strict=True)
    )
    title = "Likeliest answers" if is_label else "Candidates, relative to each other"
    return f'<h3 class="it-title">{title}</h3><ol class="it-bars">{rows}</ol>'


def caption(result: Result) -> str:
    """Return a caption above the frames that the model read.

    A word shows where the model looked, if it has attention. The words are buttons, so that the
    keyboard and a finger reach them.
    """
    frames = result.frames or []
    film = "".join(
        f'<img alt="frame {n} of {len(frames)}, as the model reads it" '
        f'src="data:image/jpeg;base64,{frame}">'
        for n, frame in enumerate(frames, start=1)
    )
    attention = result.attention
    if attention is None or attention.shape is None:
        return words(result.text) + (_film(film, len(frames)) if film else "") + notes(result)
    name, shape = _unique(), attention.shape
    maps = "".join(
        f'<div class="it-map it-m{n}" aria-hidden="true">{_cells(weights, shape)}</div>'
        for n, weights in enumerate(attention.weights)
    )
    places = [_place(weights, shape) for weights in attention.weights]
    rules = "".join(f"{_active(name, n, f'.it-m{n}')}{{opacity:1}}" for n in range(len(places)))
    return (
        f'<div class="{name}"><style>{rules}</style>'
        f"{_word_buttons(attention, places)}{_film(film + maps, shape[0])}"
        f'<p class="it-hint">Point at a word to see where the model looked.</p></div>'
        + notes(result)
    )


def aligned(result: Result) -> str:
    """Return a translation above its source, whose words light up under the cursor."""
    attention = result.attention
    if attention is None or attention.source is None:
        return words(result.text) + notes(result)
    name = _unique()
    places = [
        plain(attention.source[max(range(len(attention.source)), key=weights.__getitem__)])
        for weights in attention.weights
    ]
    source = " ".join(
        f'<span class="it-s{n}">{escape(plain(token))}</span>'
        for n, token in enumerate(attention.source)
    )
    rules = "".join(
        f"{_active(name, n, f'.it-s{at}')}{{background:rgba(255,150,0,{weight:.2f})}}"
        for n, weights in enumerate(attention.weights)
        for at, weight in enumerate(weights[: len(attention.source)])
        if weight >= _MIN_WEIGHT
    )
    return (
        f'<div class="{name}"><style>{rules}</style>{_word_buttons(attention, places)}'
        f'<p class="it-source" aria-label="source">{source}</p>'
        f'<p class="it-hint">Point at a word to see which words it is from.</p></div>'
        + notes(result)
    )


def surprisal(tokens: Sequence[TokenProbability], separator: str) -> str:
    """Return a text whose tokens are coloured by their surprisal, -log2 p.

    Args:
        tokens: tokens in order.
        separator: text between two tokens.
    """
    spans = []
    for token in tokens:
        bits = -math.log2(max(token.probability, 1e-9))
        spans.append(
            f'<span title="{bits:.1f} bits" '
            f'style="background:rgba(255,120,0,{min(0.75, bits / _MAX_BITS):.2f})">'
            f"{escape(plain(token.token))}</span>"
        )
    return f'<p class="it-text it-written" role="status">{separator.join(spans)}</p>'


def plain(token: str) -> str:
    """Return a token with spaces as spaces."""
    return token.replace(_SPACE, " ")


def _unique() -> str:
    return f"it-{uuid4().hex[:8]}"


def _active(name: str, number: int, target: str) -> str:
    """Return the CSS selector of what belongs to the word under the cursor or the focus."""
    return ",".join(f".{name}:has(.it-w{number}:{state}) {target}" for state in ("hover", "focus"))


def _word_buttons(attention: Attention, places: Sequence[str]) -> str:
    buttons = " ".join(
        f'<button type="button" class="it-word it-w{n}" title="{escape(place)}" '
        f'aria-label="{escape(f"{plain(token)}: {place}")}">{escape(plain(token))}</button>'
        for n, (token, place) in enumerate(zip(attention.tokens, places, strict=True))
    )
    return f'<p class="it-text" role="status">{buttons}</p>'


def _film(content: str, frames: int) -> str:
    return f'<div class="it-film" style="--frames:{frames}">{content}</div>'


def _cells(weights: Sequence[float], shape: tuple[int, int, int]) -> str:
    """Return the weights of a token as an SVG over the frames, the largest opaque."""
    frames, rows, columns = shape
    largest = max(weights, default=0.0) or 1.0
    cells = []
    for n, weight in enumerate(weights[: frames * rows * columns]):
        frame, cell = divmod(n, rows * columns)
        row, column = divmod(cell, columns)
        if weight >= _MIN_WEIGHT * largest:
            cells.append(
                f'<rect x="{frame * columns + column}" y="{row}" width="1" height="1" '
                f'opacity="{0.75 * weight / largest:.2f}"/>'
            )
    box = f'viewBox="0 0 {frames * columns} {rows}" preserveAspectRatio="none"'
    return f"<svg {box}>{''.join(cells)}</svg>"


def _place(weights: Sequence[float], shape: tuple[int, int, int]) -> str:
    """Describe in words where a token looked most, for those who do not see the map."""
    frames, rows, columns = shape
    frame, cell = divmod(max(range(len(weights)), key=weights.__getitem__), rows * columns)
    row, column = divmod(cell, columns)
    vertical = ("top", "middle", "bottom")[min(2, 3 * row // rows)]
    horizontal = ("left", "centre", "right")[min(2, 3 * column // columns)]
    place = f"{vertical} {horizontal}"
    return f"frame {frame + 1}, {place}" if frames > 1 else place
