"""A clip's packets, copied as they are into a small file of their own.

The decoder of pictures sees nothing else, so it cannot read ahead, seek wrongly or open anything.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from io import BytesIO
from typing import Any

import av

from pipeline.clips import MAX_DELAY, Clip
from pipeline.packets import IN_MEMORY_BYTES, VideoStream

# In the small file a picture's time is only its place in the order shown.
_TICK, _TICKS_A_PICTURE = Fraction(1, 1000), 40

# FFmpeg tells no duration of NUT files with fewer, and decord refuses them.
_MIN_PACKETS = 8

# Of these, if none is shown out of order, it tells none at all.
_NO_DURATION = frozenset({"mpeg4", "h261", "h263"})


class NoContainerError(Exception):
    """No container takes a codec."""


@contextmanager
def remux(video: VideoStream, clip: Clip) -> Iterator[BytesIO | str]:
    """A small file of a clip's packets: in memory, or by name if it is large.

    Raises:
        NoContainerError: none takes the codec.
    """
    if clip.num_bytes <= IN_MEMORY_BYTES:
        memory = BytesIO()
        _write(video, clip, memory)
        memory.seek(0)
        yield memory
        return
    # It has no name of its own: nothing is left of it, however the process ends.
    with tempfile.TemporaryFile() as file:
        _write(video, clip, file)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def packets_of(video: VideoStream, clip: Clip, stream: Any) -> Iterator[av.Packet]:
    """Copies of a clip's packets whose times are the places of their pictures.

    Args:
        video: the video.
        clip: which packets.
        stream: of the video's file, opened.
    """
    packets = video.read(stream, clip.packets, clip.starts)
    for index, (original, place) in enumerate(zip(packets, clip.shown, strict=True)):
        packet = av.Packet(bytes(original))
        packet.pts, packet.dts, packet.duration = place, index - MAX_DELAY, 1
        packet.is_keyframe = index == 0
        yield packet


def _write(video: VideoStream, clip: Clip, file: Any) -> None:
    with video.source.open() as template, _output(video, clip, template, file) as (output, stream):
        for packet in packets_of(video, clip, template):
            packet.time_base = _TICK
            packet.pts, packet.dts = packet.pts * _TICKS_A_PICTURE, packet.dts * _TICKS_A_PICTURE
            packet.duration = _TICKS_A_PICTURE
            packet.stream = stream
            output.mux_one(packet)


@contextmanager
def _output(video: VideoStream, clip: Clip, template: Any, file: Any) -> Iterator[tuple[Any, Any]]:
    """A container that takes the video's codec, and its stream."""
    # NUT keeps marks of keys as they are: with only the first one, the decoder never seeks.
    # But it keeps no colours, and does not always tell a duration. MP4 does; it is MOV that
    # takes most codecs.
    boxes = "mp4" if video.codec in ("vp9", "av1") else "mov"
    names = ["nut", boxes]
    if len(clip.packets) < _MIN_PACKETS or video.codec in _NO_DURATION:
        names = [boxes]
    elif video.coloured:
        names = [boxes, "matroska"]
    for name in names:
        file.seek(0)
        file.truncate()
        output = av.open(file, "w", format=name)
        with output:
            try:
                stream = output.add_stream_from_template(template, opaque=True)
                with suppress(AttributeError):
                    # The pictures are turned after they are decoded.
                    stream.set_display_rotation(0)
                output.start_encoding()
            except (ValueError, av.FFmpegError):
                continue
            yield output, stream
        return
    raise NoContainerError(f"no container takes {video.codec}")
