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
from pipeline.containers import ProbeError
from pipeline.packets import IN_MEMORY_BYTES, VideoStream

# In the small file a picture's time is only its place in the order shown.
_TICK, _TICKS_A_PICTURE = Fraction(1, 1000), 40

# FFmpeg tells no duration of some files with fewer, and decord refuses them.
_MIN_PACKETS = 8


@contextmanager
def remux(video: VideoStream, clip: Clip) -> Iterator[BytesIO | str]:
    """A small file of a clip's packets: in memory, or by name if it is large.

    Raises:
        ProbeError: no container takes the codec.
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


def _write(video: VideoStream, clip: Clip, file: Any) -> None:
    with video.source.open() as template, _output(video, clip, template, file) as (output, stream):
        first = b""
        packets = video.read(template, clip.packets, clip.starts)
        for index, (packet, place) in enumerate(zip(packets, clip.shown, strict=True)):
            data = bytes(packet)
            if index == 0:
                first = data
            _put(output, stream, data, index, place)
        if output.format.name in ("nut", "matroska"):
            for index in range(len(clip.packets), _MIN_PACKETS):
                _put(output, stream, first, index, index)


@contextmanager
def _output(video: VideoStream, clip: Clip, template: Any, file: Any) -> Iterator[tuple[Any, Any]]:
    """A container that takes the video's codec, and its stream."""
    # NUT keeps marks of keys as they are: with only the first one, the decoder never seeks.
    # But it keeps no colours, and of a few packets it tells no duration. MP4 does; it is MOV that
    # takes most codecs.
    boxes = "mp4" if video.codec in ("vp9", "av1") else "mov"
    short = len(clip.packets) < _MIN_PACKETS
    for name in (boxes, "nut", "matroska") if video.coloured or short else ("nut", boxes):
        output = av.open(file, "w", format=name)
        try:
            stream = output.add_stream_from_template(template, opaque=True)
        except ValueError:
            continue
        with suppress(AttributeError):
            # The pictures are turned after they are decoded.
            stream.set_display_rotation(0)
        with output:
            yield output, stream
        return
    raise ProbeError("unreadable", f"its codec is {template.codec_context.name}")


def _put(output: Any, stream: Any, data: bytes, index: int, place: int) -> None:
    """Append a packet that is number `index` to be decoded and number `place` to be shown."""
    packet = av.Packet(data)
    packet.time_base = _TICK
    packet.pts = place * _TICKS_A_PICTURE
    packet.dts = (index - MAX_DELAY) * _TICKS_A_PICTURE
    packet.duration = _TICKS_A_PICTURE
    packet.is_keyframe = index == 0
    packet.stream = stream
    output.mux_one(packet)
