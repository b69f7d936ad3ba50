"""Decoding of the frames of a clip with decord, or with PyAV where decord fails."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any

import av
import decord
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from intertitle.pipeline.decoding.video.decode_plan import DecodePlan
from intertitle.pipeline.decoding.video.demux import VideoStream
from intertitle.pipeline.decoding.video.remux import NoContainerError, packets_of, remux

decord.logging.set_level(decord.logging.QUIET)

# Number of frames that are requested from decord at a time.
_BATCH = 64


# Codecs for which only PyAV is used: decord's older FFmpeg confuses some of their byte orders.
_PYAV_ALONE = frozenset({"rawvideo"})


class MissingPictureError(Exception):
    """The packets of a clip give fewer frames than expected."""


def read_clip(video: VideoStream, clip: DecodePlan, out: NDArray[np.uint8]) -> None:
    """Decode the selected frames of a clip into `out`, uint8 [T, size, size, 3].

    Raises:
        MissingPictureError: one of the frames cannot be decoded.
    """
    if video.codec in _PYAV_ALONE:
        _with_pyav(video, clip, out)
        return
    try:
        with remux(video, clip) as source:
            _with_decord(source, clip, out)
    except (decord.DECORDError, NoContainerError):
        _with_pyav(video, clip, out)


def _with_decord(source: BytesIO | str, clip: DecodePlan, out: NDArray[np.uint8]) -> None:
    """Read the remuxed file of a clip with decord.

    Raises:
        DECORDError: the file cannot be read, or gives fewer frames than expected.
    """
    size = out.shape[1]
    # decord treats the padding at the end of such short rows as pixels, so frames are read at a
    # larger size and averaged.
    factor = 64 // math.gcd(64, size) if size < 64 and size % 4 == 0 else 1
    read_size = size * factor
    try:
        # One thread, because Ray decodes many files in parallel. A missing frame is an error.
        reader = decord.VideoReader(
            source, decord.cpu(0), read_size, read_size, num_threads=1, fault_tol="0.0000001"
        )
        row = 0
        for batch in _batches(reader, clip):
            if factor > 1:
                tiles = batch.reshape(len(batch), size, factor, size, factor, 3)
                batch = np.rint(tiles.mean((2, 4))).astype(np.uint8)
            out[row : row + len(batch)] = batch
            row += len(batch)
        if clip.by_time and clip.places[-1] < clip.num_pictures - 1:
            # If the last frame can be read, no earlier one is missing.
            reader.get_batch([clip.num_pictures - 1])
    except (
        decord.DECORDLimitReachedError,
        AssertionError,
        RuntimeError,
        IndexError,
        StopIteration,
    ) as error:
        raise decord.DECORDError(str(error)) from error


def _batches(reader: decord.VideoReader, clip: DecodePlan) -> Iterator[NDArray[np.uint8]]:
    """Yield the selected frames in batches [T, H, W, 3]."""
    if clip.by_time:
        for begin in range(0, len(clip.places), _BATCH):
            yield reader.get_batch(clip.places[begin : begin + _BATCH]).asnumpy()
        return
    # decord needs the times of frames to skip them, so all frames are decoded.
    selected = set(clip.places)
    for place in range(clip.places[-1] + 1):
        frame = reader.next()
        if place in selected:
            yield frame.asnumpy()[None]


def _with_pyav(video: VideoStream, clip: DecodePlan, out: NDArray[np.uint8]) -> None:
    """Decode a clip's packets with PyAV, without remuxing them.

    Raises:
        MissingPictureError: one of the selected frames is missing or damaged.
    """
    rows = {place: row for row, place in enumerate(clip.places)}
    scale = _Scale(out.shape[1])
    done = set()
    with video.source.open() as stream:
        for index, frame in enumerate(_decoded(video, clip, stream)):
            place = frame.pts if clip.by_time else index
            if place in rows and not frame.is_corrupt:
                out[rows[place]] = scale(frame)
                done.add(place)
    if missing := len(rows) - len(done):
        raise MissingPictureError(f"{missing} of {len(rows)} frames can't be decoded")


def _decoded(video: VideoStream, clip: DecodePlan, stream: Any) -> Iterator[Any]:
    """Yield all frames of a clip in the decoder's order; a frame's `pts` is its position there."""
    context = stream.codec_context
    context.thread_count = 1
    packets = packets_of(video, clip, stream)
    while True:
        packet = next(packets, None)
        # A packet that cannot be decoded gives no frame; the decoder marks frames that depend on it
        # as corrupt.
        with suppress(av.FFmpegError):
            yield from context.decode(packet)
        if packet is None:
            return


class _Scale:
    """Callable that converts any frame to a square RGB frame with FFmpeg's default scaler."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._graph: Any = None
        self._kind: tuple[object, ...] = ()

    def __call__(self, frame: Any) -> NDArray[np.uint8]:
        kind = (frame.width, frame.height, frame.format.name)
        if kind != self._kind:
            self._graph, self._kind = Graph(), kind
            buffer = self._graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base,
            )
            self._graph.link_nodes(
                buffer,
                self._graph.add("scale", f"{self._size}:{self._size}"),
                self._graph.add("format", "rgb24"),
                self._graph.add("buffersink"),
            ).configure()
        self._graph.push(frame)
        pixels: NDArray[np.uint8] = self._graph.pull().to_ndarray(format="rgb24")
        return pixels
