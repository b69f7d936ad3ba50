"""Write captions of a scene with a small grammar, and parse motions from captions.

Every sentence states all motions of the scene, and every phrase for a motion has one keyword that
occurs nowhere else in the grammar. So even an ungrammatical sentence can be parsed for motions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from intertitle.pipeline.importers.synthetic.scene import Actor, Motion, Scene

NUM_REFERENCES = 5

_PHRASES: dict[Motion, tuple[str, ...]] = {
    "left": ("moves left", "moves to the left", "slides to the left", "goes left"),
    "right": ("moves right", "moves to the right", "slides to the right", "goes right"),
    "up": ("moves up", "slides up", "goes up", "rises"),
    "down": ("moves down", "slides down", "goes down", "sinks"),
    "grows": ("grows", "gets bigger", "becomes larger"),
    "shrinks": ("shrinks", "gets smaller", "becomes smaller"),
    "turns": ("turns", "rotates", "spins"),
    "still": ("stays still", "stands still", "does not move"),
}
_STILL_BEFORE = ("stays still", "stands still")
_STILL_AFTER = ("stops", "stays still")
_TELLING: dict[str, Motion] = {
    "left": "left",
    "right": "right",
    "up": "up",
    "rises": "up",
    "down": "down",
    "sinks": "down",
    "grows": "grows",
    "bigger": "grows",
    "larger": "grows",
    "shrinks": "shrinks",
    "smaller": "shrinks",
    "turns": "turns",
    "rotates": "turns",
    "spins": "turns",
    "still": "still",
    "not": "still",
    "stops": "still",
}


def draw_references(scene: Scene, rng: np.random.Generator) -> tuple[str, ...]:
    """Draw `NUM_REFERENCES` distinct captions of a scene, in lower case without punctuation."""
    sentences: dict[str, None] = {}
    while len(sentences) < NUM_REFERENCES:
        sentences[_draw_sentence(scene, rng)] = None
    return tuple(sentences)


def parse_motions(caption: str) -> tuple[Motion, ...] | None:
    """Return the motions that a caption states, in their order, or None if it states none.

    The caption may be any text, such as an unfinished or ungrammatical sentence of a model.
    """
    words = caption.lower().split()
    return tuple(_TELLING[word] for word in words if word in _TELLING) or None


def judge_order(
    caption: str, scene_row: Mapping[str, Any]
) -> Literal["right", "backwards", "neither"]:
    """Return whether a caption states the motions of a clip or those of its reverse.

    Args:
        caption: caption that a model generated.
        scene_row: row of `scenes.parquet`, of which `motions` and `backwards` are used.
    """
    stated = parse_motions(caption)
    if stated == tuple(scene_row["motions"]):
        return "right"
    return "backwards" if stated == tuple(scene_row["backwards"]) else "neither"


def _draw_sentence(scene: Scene, rng: np.random.Generator) -> str:
    opening = _pick(("", "", "there is", "in this clip"), rng)
    article = "the" if not opening and rng.random() < 0.3 else "a"
    that = " that" if opening == "there is" else ""
    # "there is a circle that turns while a square stays still" would be ambiguous: the square could
    # be part of the relative clause.
    link = "and" if that else _pick(("while", "while", "and"), rng)
    clauses = [
        f"{_draw_noun(actor, article, rng)}{that} {_draw_predicate(actor.motions, rng)}"
        for actor in scene.actors
    ]
    return f"{opening} {f' {link} '.join(clauses)}".strip()


def _draw_noun(actor: Actor, article: str, rng: np.random.Generator) -> str:
    size = f"{actor.size} " if actor.size and rng.random() < 0.6 else ""
    noun = f"{size}{actor.colour} {actor.shape}"
    return f"an {noun}" if article == "a" and noun[0] in "aeiou" else f"{article} {noun}"


def _draw_predicate(motions: tuple[Motion, ...], rng: np.random.Generator) -> str:
    if len(motions) == 1:
        return _pick(_PHRASES[motions[0]], rng)
    before, after = motions
    first = _pick(_STILL_BEFORE if before == "still" else _PHRASES[before], rng)
    then = _pick(_STILL_AFTER if after == "still" else _PHRASES[after], rng)
    return f"{_pick(('', '', 'first '), rng)}{first} and then {then}"


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
