"""Render a corpus: plan, draw and encode every clip, and write the corpus and the ground truth.

Clips come in pairs. The two clips of an order-only pair are twins: the same scene, played forwards
and backwards, in the same split. Every frame is encoded on its own with the same quantiser, so the
decoded frames of twins are identical to the bit, in opposite order. A model that ignores the order
generates the same caption for both twins, and is right for at most half of these.

Clips with frame labels have no twins: each shows one shape, whose motion changes at some frame.
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

from intertitle.pipeline.corpus import Example, Item, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.declaration import SEED, Importer, Option, Sources
from intertitle.pipeline.importers.report import ImportReport, count_import
from intertitle.pipeline.importers.synthetic.captions import draw_references
from intertitle.pipeline.importers.synthetic.draw import draw
from intertitle.pipeline.importers.synthetic.scene import (
    NUM_FRAMES,
    Kind,
    Scene,
    draw_scene,
    motions_by_frame,
    reverse,
)
from intertitle.pipeline.storage.paths import AnyPath, as_path, is_local

Split = Literal["train", "val", "test"]

FPS = 12
# With fewer clips, a split would be empty.
MIN_CLIPS = 10

# Successive pairs take these kinds in turn; ten of the twelve are order-only.
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
# Splits in the ratio 14 : 3 : 3, spread out. Each position in _KINDS cycles through these splits,
# offset by one from the position before it, so that all splits get the same mix of kinds.
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
class RenderedClip:
    """The plan of one clip.

    Attributes:
        key: key of the item and id of the example.
        split: split of the example.
        scene: scene to draw.
        targets: captions, or one label per frame.
    """

    key: str
    split: Split
    scene: Scene
    targets: tuple[str, ...]


def plan_clip(seed: int, index: int) -> RenderedClip:
    """Plan the clip with a given index, which depends only on the seed and the index."""
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
    return RenderedClip(
        f"clip-{index:05d}", _SPLITS[(cycle + place) % len(_SPLITS)], scene, captions
    )


def plan_labelled_clip(seed: int, index: int) -> RenderedClip:
    """Plan a clip with one label per frame, which depends only on the seed and the index."""
    scene = draw_scene("switch", np.random.default_rng((seed, index)))
    split = _SPLITS[index % len(_SPLITS)]
    return RenderedClip(f"clip-{index:05d}", split, scene, motions_by_frame(scene))


def encode(frames: npt.NDArray[np.uint8], path: Path) -> None:
    """Write frames as an H.264 video; equal frames give equal bytes.

    Args:
        frames: frames, RGB, uint8 `[T, H, W, 3]`, shown at `FPS` frames per second.
        path: path of the MP4 file.
    """
    options = {"qp": "20", "preset": "veryfast", "tune": "animation"}
    with av.open(path, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        # A frame predicted from another one would contain information on the order.
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
    """Render a corpus of clips with moving shapes; equal seeds give equal files.

    Writes `clips/<key>.mp4`, the corpus, and the ground truth `scenes.parquet`: the motions in each
    clip, and those that the same frames show in reverse order.

    Args:
        out: path of the corpus folder.
        num_clips: number of clips; with an even number, every order-only clip has its twin.
        seed: seed of the drawn clips, 0 or more.
        frame_labels: whether the motion changes within each clip and the targets are one label per
            frame (see `motions_by_frame`) instead of captions.
        num_processes: number of processes; None for one per core. With more than one, processes are
            spawned, so a script needs the usual `if __name__ == "__main__"`.
        on_progress: callback with the number of clips done and their total, called after each clip.

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
    return count_import(corpus, notes=[note])


def _render_all(
    render: Callable[[int], RenderedClip], num_clips: int, num_processes: int
) -> Iterator[RenderedClip]:
    # A process takes about a second to start, in which some fifty clips could be rendered.
    num_processes = min(num_processes, num_clips // 50)
    if num_processes < 2:
        yield from map(render, range(num_clips))
        return
    # A forked child of a process with threads (torch, Ray) may hang; a spawned one does not.
    with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(render, range(num_clips), chunksize=8)


def _render(
    out: Path, plan: Callable[[int, int], RenderedClip], seed: int, index: int
) -> RenderedClip:
    clip = plan(seed, index)
    encode(draw(clip.scene), out / _uri(clip))
    return clip


def _uri(clip: RenderedClip) -> str:
    return f"clips/{clip.key}.mp4"


def _truth(clip: RenderedClip) -> dict[str, object]:
    return {
        "key": clip.key,
        "split": clip.split,
        "kind": clip.scene.kind,
        "order_only": clip.scene.order_only,
        "motions": list(clip.scene.motions),
        "backwards": list(reverse(clip.scene).motions),
    }


def import_rendered(
    out: AnyPath,
    num_clips: int = 400,
    seed: int = 0,
    frame_labels: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Render a corpus into a folder of this machine; see `render_corpus`.

    Raises:
        UserError: the corpus is on another machine, or a number is not allowed.
    """
    folder = as_path(out)
    if not is_local(folder):
        raise UserError(f"import rendered: {out}, allowed: a path on this machine")
    return render_corpus(
        folder, num_clips=num_clips, seed=seed, frame_labels=frame_labels, on_progress=on_progress
    )


IMPORTER = Importer(
    "rendered",
    import_rendered,
    Sources.NONE,
    "",
    "clips drawn by the program",
    options=(
        Option("num_clips", "Number of clips to draw; default: 400", int),
        SEED,
        Option("frame_labels", "Give each frame a label, without captions", bool),
    ),
    progress="drawing clips",
)
