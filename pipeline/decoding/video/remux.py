"""Copying of a clip's packets, without decoding, into a small container file.

The decoder reads only this file, so it cannot read ahead, seek to a wrong position or open other
files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from io import BytesIO
from typing import Any

import av

from intertitle.pipeline.decoding.video.decode_plan import MAX_DELAY, DecodePlan
from intertitle.pipeline.decoding.video.demux import IN_MEMORY_BYTES, VideoStream

# In the remuxed file, a frame's time is its position in presentation order.
_TICK, _TICKS_A_PICTURE = Fraction(1, 1000), 40

# Minimum number of packets of a NUT file: FFmpeg reports no duration for fewer, and decord refuses
# a file without a duration.
_MIN_PACKETS = 8

# Codecs for which FFmpeg reports no duration of a NUT file if no frame is shown out of order.
_NO_DURATION = frozenset({"mpeg4", "h261", "h263"})


class NoContainerError(Exception):
    """No supported container can hold the codec."""


@contextmanager
def remux(video: VideoStream, clip: DecodePlan) -> Iterator[BytesIO | str]:
    """Provide a file with a clip's packets in a `with` block: in memory, or a path if it is large.

    Raises:
        NoContainerError: no supported container can hold the codec.
    """
    if clip.num_bytes <= IN_MEMORY_BYTES:
        memory = BytesIO()
        _write(video, clip, memory)
        memory.seek(0)
        yield memory
        return
    # The temporary file has no name, so nothing is left of it even if the process is killed.
    with tempfile.TemporaryFile() as file:
        _write(video, clip, file)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def packets_of(video: VideoStream, clip: DecodePlan, stream: Any) -> Iterator[av.Packet]:
    """Yield copies of a clip's packets whose times are the positions of their frames.

    Args:
        video: stream with the packets of the video.
        clip: clip whose packets are copied.
        stream: open stream of the video's file.
    """
    packets = video.read(stream, clip.packets, clip.starts)
    for index, (original, place) in enumerate(zip(packets, clip.output_positions, strict=True)):
        # Not `av.Packet(bytes(original))`, which lacks the zeros that decoders read after the end.
        packet = av.Packet(original.size)
        packet.update(original)
        packet.pts, packet.dts, packet.duration = place, index - MAX_DELAY, 1
        packet.is_keyframe = index == 0
        yield packet


def _write(video: VideoStream, clip: DecodePlan, file: Any) -> None:
    with video.source.open() as template, _output(video, clip, template, file) as (output, stream):
        for packet in packets_of(video, clip, template):
            packet.time_base = _TICK
            packet.pts, packet.dts = packet.pts * _TICKS_A_PICTURE, packet.dts * _TICKS_A_PICTURE
            packet.duration = _TICKS_A_PICTURE
            packet.stream = stream
            output.mux_one(packet)


@contextmanager
def _output(
    video: VideoStream, clip: DecodePlan, template: Any, file: Any
) -> Iterator[tuple[Any, Any]]:
    """Open a container that can hold the video's codec; yield the container and its stream."""
    # NUT preserves keyframe marks: with only the first packet marked, the decoder never seeks.
    # But NUT stores no colour space and does not always give a duration. MP4 and MOV do; MOV
    # supports most codecs.
    mp4_or_mov = "mp4" if video.codec in ("vp9", "av1") else "mov"
    names = ["nut", mp4_or_mov]
    if len(clip.packets) < _MIN_PACKETS or video.codec in _NO_DURATION:
        names = [mp4_or_mov]
    elif video.coloured:
        names = [mp4_or_mov, "matroska"]
    for name in names:
        file.seek(0)
        file.truncate()
        output = av.open(file, "w", format=name)
        with output:
            try:
                stream = output.add_stream_from_template(template, opaque=True)
                with suppress(AttributeError):
                    # The frames are rotated after they are decoded.
                    stream.set_display_rotation(0)
                output.start_encoding()
            except (ValueError, av.FFmpegError):
                continue
            yield output, stream
        return
    raise NoContainerError(f"no container takes {video.codec}")
