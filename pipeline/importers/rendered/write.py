"""The whole import: plan every clip, draw and encode it, write the corpus and the truth.

Clips come in pairs. The two clips of an order-only pair are twins: one scene, played forwards and
backwards, in the same split. Every frame is coded on its own with the same quantiser, so the
decoded frames of twins are the same to the bit, in opposite order. A model that ignores order must
say the same of both, and is right about half of them at most.

Clips with labels have no twins: in each one shape does one thing, and from some frame on another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus import Example, Item, write_corpus
from pipeline.errors import UserError
from pipeline.importers.rendered.captions import draw_references
from pipeline.importers.rendered.draw import draw
from pipeline.importers.rendered.scene import (
    NUM_FRAMES,
    Kind,
    Scene,
    draw_scene,
    motions_by_frame,
    reverse,
)
from pipeline.importers.report import ImportReport, report_import

Split = Literal["train", "val", "test"]

FPS = 12
# Fewer would leave a split empty.
MIN_CLIPS = 10

# A pair takes the next kind of this circle; ten in twelve are order-only.
_KINDS: tuple[Kind, ...] = (
    "left/right",
    "then",
    "turns",
    "up/down",
    "then",
    "two",
    "grows/shrinks",
    "still",
    "then",
    "left/right",
    "up/down",
    "two",
)
# 14 : 3 : 3, spread out; each place in the circle of kinds goes through it, one step behind the
# place before it, so all splits get the same mix of kinds.
_VAL, _TEST = (1, 8, 15), (4, 11, 18)
_SPLITS: tuple[Split, ...] = tuple(
    "val" if i in _VAL else "test" if i in _TEST else "train" for i in range(20)
)

SCENE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("order_only", pa.bool_(), nullable=False),
        pa.field("motions", pa.list_(pa.string()), nullable=False),
        pa.field("backwards", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip before it is drawn; its targets are captions, or a label for each frame."""

    key: str
    split: Split
    scene: Scene
    targets: tuple[str, ...]


def plan_clip(seed: int, index: int) -> Clip:
    """Everything about clip number `index`; depends on nothing else."""
    pair, second = divmod(index, 2)
    cycle, place = divmod(pair, len(_KINDS))
    scene = draw_scene(_KINDS[place], np.random.default_rng((seed, 2 * pair)))
    if second:
        scene = (
            reverse(scene)
            if scene.order_only
            else draw_scene(_KINDS[place], np.random.default_rng((seed, index)))
        )
    captions = draw_references(scene, np.random.default_rng((seed, index, 1)))
    return Clip(f"clip-{index:05d}", _SPLITS[(cycle + place) % len(_SPLITS)], scene, captions)


def plan_labelled_clip(seed: int, index: int) -> Clip:
    """As `plan_clip`, of a clip with a label for each frame."""
    scene = draw_scene("switch", np.random.default_rng((seed, index)))
    split = _SPLITS[index % len(_SPLITS)]
    return Clip(f"clip-{index:05d}", split, scene, motions_by_frame(scene))


def encode(frames: npt.NDArray[np.uint8], path: Path) -> None:
    """Write frames `[T, H, W, 3]` as H.264 at `FPS` frames a second; equal frames, equal bytes."""
    options = {"qp": "20", "preset": "veryfast", "tune": "animation"}
    with av.open(path, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        # A frame that leans on the one before it would carry a trace of the order.
        context.gop_size = 1
        context.thread_count = 1
        context.flags |= av.codec.context.Flags.bitexact
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def render_corpus(
    out: Path,
    *,
    num_clips: int,
    seed: int = 0,
    frame_labels: bool = False,
    num_processes: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Draw clips of moving shapes; the same seed gives the same files.

    Writes `clips/<key>.mp4`, the corpus, and `scenes.parquet`, the truth: what each clip shows, and
    what the same frames show backwards.

    Args:
        out: the folder of the corpus.
        num_clips: how many; an even number leaves no order-only clip without its twin.
        seed: 0 or more.
        frame_labels: in each clip the motion changes midway, and its targets are a label for each
            frame, see `motions_by_frame`; otherwise they are captions.
        num_processes: None takes every core; more than one starts Python anew in each, so a script
            needs the usual `if __name__ == "__main__"`.
        on_progress: called with (clips done, clips in all) after each clip.

    Raises:
        UserError: too few clips for three splits, or a negative seed.
    """
    if num_clips < MIN_CLIPS:
        raise UserError(f"num_clips: {num_clips}, allowed: {MIN_CLIPS} or more")
    if seed < 0:
        raise UserError(f"seed: {seed}, allowed: 0 or more")
    (out / "clips").mkdir(parents=True, exist_ok=True)
    clips = []
    render = partial(_render, out, plan_labelled_clip if frame_labels else plan_clip, seed)
    for clip in _render_all(render, num_clips, num_processes or os.cpu_count() or 1):
        clips.append(clip)
        if on_progress:
            on_progress(len(clips), num_clips)
    truth = [_truth(clip) for clip in clips]
    pq.write_table(pa.Table.from_pylist(truth, schema=SCENE_SCHEMA), out / "scenes.parquet")
    corpus = write_corpus(
        out,
        [Item(clip.key, _uri(clip), "video") for clip in clips],
        [Example(clip.key, clip.split, clip.key, None, clip.targets) for clip in clips],
    )
    num_order_only = sum(clip.scene.order_only for clip in clips)
    note = (
        f"a label for each of a clip's {NUM_FRAMES} frames: `intertitle precompute --every 1`"
        if frame_labels
        else f"order-only: {num_order_only} clips"
    )
    return report_import(corpus, notes=[note])


def _render_all(
    render: Callable[[int], Clip], num_clips: int, num_processes: int
) -> Iterator[Clip]:
    # A process takes about a second to start, the time of some fifty clips.
    num_processes = min(num_processes, num_clips // 50)
    if num_processes < 2:
        yield from map(render, range(num_clips))
        return
    # A fork of a process with threads (torch, Ray) may hang; a fresh one cannot.
    with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(render, range(num_clips), chunksize=8)


def _render(out: Path, plan: Callable[[int, int], Clip], seed: int, index: int) -> Clip:
    clip = plan(seed, index)
    encode(draw(clip.scene), out / _uri(clip))
    return clip


def _uri(clip: Clip) -> str:
    return f"clips/{clip.key}.mp4"


def _truth(clip: Clip) -> dict[str, object]:
    return {
        "key": clip.key,
        "split": clip.split,
        "kind": clip.scene.kind,
        "order_only": clip.scene.order_only,
        "motions": list(clip.scene.motions),
        "backwards": list(reverse(clip.scene).motions),
    }
