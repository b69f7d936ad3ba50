"""What a video file holds, found before any picture is decoded for its own sake."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

from pipeline.packets import VideoStream, scan, video_file
from pipeline.timeline import Timeline, arrange


@dataclass(frozen=True, slots=True)
class Track:
    """The video of a file.

    Attributes:
        video: its packets.
        timeline: its pictures.
        matrix: how the file asks the picture to be turned or mirrored, [2, 2]: (x, y) of the coded
            picture is shown at (x, y) @ matrix.
    """

    video: VideoStream
    timeline: Timeline
    matrix: NDArray[np.int64]


def probe(file: BinaryIO, max_pixels: int) -> Track:
    """Read all packets of a file once, and keep few.

    Args:
        file: opened, and left open.
        max_pixels: of a picture in the file, width times height.

    Raises:
        ProbeError: it is no video, or its pictures have more than `max_pixels`.
    """
    source = video_file(file, max_pixels)
    with source.open() as stream:
        video = scan(source, stream)
        timeline = arrange(video)
        return Track(video, timeline, _orientation(video, timeline, stream))


def verify(track: Track) -> Track:
    """Decode everything to find what can't be; for a file that the decoder stumbled over.

    Raises:
        ProbeError: nothing can.
    """
    video, timeline = track.video, track.timeline
    good: list[int | None] = []
    with video.source.open() as stream:
        stream.thread_count = 1
        for packet in [*video.read(stream, range(len(video.packets))), None]:
            with suppress(av.FFmpegError):
                frames = stream.codec_context.decode(packet)
                good.extend(frame.pts for frame in frames if not frame.is_corrupt)
    times = set(good)
    packets = list(video.packets)
    for place, packet in enumerate(packets):
        fine = packet.pts in times if timeline.by_time else place < len(good)
        if not (fine or packet.discard or packet.traits.hidden):
            packets[place] = packet._replace(traits=packet.traits._replace(whole=False))
    # What was found first stays the reason.
    video = replace(video, packets=packets, degraded=timeline.degraded)
    return replace(track, video=video, timeline=arrange(video))


def _orientation(video: VideoStream, timeline: Timeline, stream: Any) -> NDArray[np.int64]:
    """The display matrix of the first picture: the container's word or the stream's own."""
    for packet in [*video.read(stream, [int(timeline.starts[0])]), None]:
        with suppress(av.FFmpegError):
            for frame in stream.codec_context.decode(packet):
                try:
                    matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)
                except ValueError:
                    # Beside it there is something that PyAV has no name for, such as EXIF.
                    return _turned(frame.rotation)
                if matrix is not None:
                    # Nine fixed-point numbers, a row of three at a time.
                    rows = np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)[:2, :2]
                    return np.rint(rows / 65536).astype(np.int64)
                break
    return np.eye(2, dtype=np.int64)


def _turned(degrees: float) -> NDArray[np.int64]:
    """The matrix of a turn against the clock."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.rint([[cos, -sin], [sin, cos]]).astype(np.int64)
