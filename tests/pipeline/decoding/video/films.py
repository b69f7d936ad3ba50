"""Films for the tests: drawn here, encoded by PyAV, and decoded whole by it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

NUM_FRAMES = 40
WIDTH, HEIGHT = 176, 144
# FFmpeg's numbers.
BT709, LIMITED = 1, 1


@cache
def scene(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Pictures [T, H, W, 3] that all differ."""
    y, x = np.mgrid[0:height, 0:width]
    pictures = np.empty((NUM_FRAMES, height, width, 3), np.uint8)
    for at in range(NUM_FRAMES):
        wave = 128 + 80 * np.sin((x + y + at * 4) / 9)
        pictures[at] = np.stack([x * 150 // width + 60, y * 150 // height + at, wave], -1)
        pictures[at, : height // 5 + 1, : width // 5 + 1] = (220, 30, 40)
    return pictures


def write(
    path: Path,
    codec: str,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    gop: int = 12,
    num_frames: int = NUM_FRAMES,
    container: str | None = None,
    tagged: bool = False,
    rate: Fraction | int = 25,
    flags: str = "",
) -> Path:
    """Encode the scene; `tagged` says that its colours are those of BT.709, `flags` are MP4's."""
    movflags = {"movflags": flags} if flags else {}
    with _own_priority(), av.open(path, "w", format=container, options=movflags) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        if tagged:
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED
        for index in range(num_frames):
            picture = scene(*size)[index % NUM_FRAMES]
            frame = av.VideoFrame.from_ndarray(picture).reformat(format=pix_fmt)
            if tagged:
                frame.colorspace, frame.color_range = BT709, LIMITED
            frame.pts, frame.time_base = index, 1 / Fraction(rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@contextmanager
def _own_priority() -> Iterator[None]:
    """Restore the scheduling of this thread.

    SVT-AV1 gives it the highest real-time priority if the user is root. All that the tests start
    afterwards, such as a browser, would inherit that, and keep other processes from running.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def with_pyav(path: Path, size: int) -> np.ndarray:
    """All pictures in the order shown, scaled as FFmpeg does by itself; [T, size, size, 3]."""
    return np.stack([pixels for _, pixels in each_with_pyav(path, size)])


def each_with_pyav(path: Path, size: int) -> Iterator[tuple[float | None, np.ndarray]]:
    """Each picture, and its time in seconds."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        graph: Any = None
        for frame in container.decode(stream):
            if graph is None:
                graph = av.filter.Graph()
                source = graph.add_buffer(
                    width=frame.width,
                    height=frame.height,
                    format=frame.format,
                    time_base=stream.time_base,
                )
                graph.link_nodes(
                    source,
                    graph.add("scale", f"{size}:{size}"),
                    graph.add("format", "rgb24"),
                    graph.add("buffersink"),
                ).configure()
            time_s = None if frame.pts is None else float(frame.pts * stream.time_base)
            graph.push(frame)
            yield time_s, graph.pull().to_ndarray(format="rgb24")
