"""The pictures of a clip: decord's, or PyAV's where decord can't."""

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

from pipeline.clips import Clip
from pipeline.packets import VideoStream
from pipeline.remux import NoContainerError, packets_of, remux

decord.logging.set_level(decord.logging.QUIET)

# Frames taken from decord at once.
_BATCH = 64


# decord's FFmpeg is older: it takes some orders of these bytes for others.
_PYAV_ALONE = frozenset({"rawvideo"})


class MissingPictureError(Exception):
    """The packets of a clip give fewer pictures than they should."""


def read_clip(video: VideoStream, clip: Clip, out: NDArray[np.uint8]) -> None:
    """Decode the wanted pictures of a clip into `out`, uint8 [T, size, size, 3].

    Raises:
        MissingPictureError: one of them can't be decoded.
    """
    if video.codec in _PYAV_ALONE:
        _with_pyav(video, clip, out)
        return
    try:
        with remux(video, clip) as source:
            _with_decord(source, clip, out)
    except (decord.DECORDError, NoContainerError):
        _with_pyav(video, clip, out)


def _with_decord(source: BytesIO | str, clip: Clip, out: NDArray[np.uint8]) -> None:
    """Read a clip's small file.

    Raises:
        DECORDError: it can't be read, or gave fewer pictures than it should.
    """
    size = out.shape[1]
    # decord mistakes the padding at the end of such short rows for pixels: larger, then averaged.
    factor = 64 // math.gcd(64, size) if size < 64 and size % 4 == 0 else 1
    wide = size * factor
    try:
        # One thread: Ray decodes many files at once. A picture that is missing is an error.
        reader = decord.VideoReader(
            source, decord.cpu(0), wide, wide, num_threads=1, fault_tol="0.0000001"
        )
        at = 0
        for batch in _batches(reader, clip):
            if factor > 1:
                tiles = batch.reshape(len(batch), size, factor, size, factor, 3)
                batch = np.rint(tiles.mean((2, 4))).astype(np.uint8)
            out[at : at + len(batch)] = batch
            at += len(batch)
        if clip.by_time and clip.places[-1] < clip.num_pictures - 1:
            # Only if the last picture comes has none before it been lost.
            reader.get_batch([clip.num_pictures - 1])
    except (
        decord.DECORDLimitReachedError,
        AssertionError,
        RuntimeError,
        IndexError,
        StopIteration,
    ) as error:
        raise decord.DECORDError(str(error)) from error


def _batches(reader: decord.VideoReader, clip: Clip) -> Iterator[NDArray[np.uint8]]:
    """The wanted pictures, some [T, H, W, 3] at a time."""
    if clip.by_time:
        for begin in range(0, len(clip.places), _BATCH):
            yield reader.get_batch(clip.places[begin : begin + _BATCH]).asnumpy()
        return
    # To skip pictures decord needs their times.
    wanted = set(clip.places)
    for place in range(clip.places[-1] + 1):
        picture = reader.next()
        if place in wanted:
            yield picture.asnumpy()[None]


def _with_pyav(video: VideoStream, clip: Clip, out: NDArray[np.uint8]) -> None:
    """Decode a clip's packets without a file of their own.

    Raises:
        MissingPictureError: one of the wanted pictures is missing or damaged.
    """
    wanted = {place: at for at, place in enumerate(clip.places)}
    scale = _Scale(out.shape[1])
    done = set()
    with video.source.open() as stream:
        for counted, frame in enumerate(_decoded(video, clip, stream)):
            place = frame.pts if clip.by_time else counted
            if place in wanted and not frame.is_corrupt:
                out[wanted[place]] = scale(frame)
                done.add(place)
    if missing := len(wanted) - len(done):
        raise MissingPictureError(f"{missing} of {len(wanted)} frames can't be decoded")


def _decoded(video: VideoStream, clip: Clip, stream: Any) -> Iterator[Any]:
    """All frames of a clip in the decoder's order; a frame's time is its place in that order."""
    context = stream.codec_context
    context.thread_count = 1
    packets = packets_of(video, clip, stream)
    while True:
        packet = next(packets, None)
        # A packet that can't be decoded gives no picture; the decoder marks those that lean on it.
        with suppress(av.FFmpegError):
            yield from context.decode(packet)
        if packet is None:
            return


class _Scale:
    """Scales frames to a square of RGB as FFmpeg does by itself, whatever they are."""

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
