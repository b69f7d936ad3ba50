"""Decoding of a clip with decord, or with PyAV where frames are counted or decord fails."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO
from itertools import chain
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
    """The packets of a clip give fewer frames than expected, or damaged ones."""


def read_clip(
    video: VideoStream, clip: DecodePlan, out: NDArray[np.uint8], strict: bool = True
) -> None:
    """Decode the selected frames of a clip into `out`, uint8 [T, size, size, 3].

    Args:
        video: stream with the packets of the video.
        clip: clip to decode.
        out: array for the frames.
        strict: whether a damaged packet before the last selected frame is an error even if all
            selected frames can be decoded, because they may depend on it or be counted wrongly.

    Raises:
        MissingPictureError: one of the frames cannot be decoded, or a packet is damaged.
    """
    # To count frames, all are decoded; decord does not report which of them are damaged.
    if video.codec in _PYAV_ALONE or not clip.by_time:
        _with_pyav(video, clip, out, strict)
        return
    try:
        with remux(video, clip) as source:
            _with_decord(source, clip, out)
    except (decord.DECORDError, NoContainerError):
        _with_pyav(video, clip, out, strict)


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
        for begin in range(0, len(clip.places), _BATCH):
            batch = reader.get_batch(clip.places[begin : begin + _BATCH]).asnumpy()
            if factor > 1:
                tiles = batch.reshape(len(batch), size, factor, size, factor, 3)
                batch = np.rint(tiles.mean((2, 4))).astype(np.uint8)
            out[begin : begin + len(batch)] = batch
        # Packets and frames have the same times, so that there is a frame for each packet.
        if clip.places[-1] < len(clip.packets) - 1:
            # If the last frame can be read, no earlier one is missing.
            reader.get_batch([len(clip.packets) - 1])
    except (decord.DECORDLimitReachedError, AssertionError, RuntimeError, IndexError) as error:
        raise decord.DECORDError(str(error)) from error


def _with_pyav(video: VideoStream, clip: DecodePlan, out: NDArray[np.uint8], strict: bool) -> None:
    """Decode a clip's packets with PyAV, without remuxing them.

    Raises:
        MissingPictureError: one of the selected frames is missing or damaged, or, if `strict`,
            a packet before the last of them.
    """
    rows = {place: row for row, place in enumerate(clip.places)}
    scale = _Scale(out.shape[1])
    with video.source.open() as stream:
        for index, frame in enumerate(_decoded(video, clip, stream, strict)):
            place = frame.pts if clip.by_time else index
            if place in rows:
                out[rows.pop(place)] = scale(frame)
                if not rows:
                    return
    raise MissingPictureError(f"{len(rows)} of {len(clip.places)} frames can't be decoded")


def _decoded(video: VideoStream, clip: DecodePlan, stream: Any, strict: bool) -> Iterator[Any]:
    """Yield the undamaged frames of a clip in the decoder's order.

    A frame's `pts` is its position there.

    Raises:
        MissingPictureError: a packet or a frame is damaged, and `strict` is set.
    """
    context = stream.codec_context
    context.thread_count = 1
    for packet in chain(packets_of(video, clip, stream), [None]):
        frames: list[Any] = []
        is_damaged = False
        try:
            frames = context.decode(packet)
        except av.FFmpegError:
            is_damaged = True
        if strict and (is_damaged or any(frame.is_corrupt for frame in frames)):
            raise MissingPictureError("one of the packets is damaged")
        yield from (frame for frame in frames if not frame.is_corrupt)


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
