"""What a video file holds, found before any picture is decoded for its own sake."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

from pipeline.metadata import orientation
from pipeline.packets import VideoStream, scan, video_file
from pipeline.timeline import Timeline, arrange

# The display matrix that does what an orientation of EXIF says.
_BY_ORIENTATION = {
    1: ((1, 0), (0, 1)),
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, 1), (-1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, -1), (1, 0)),
}
# The orientation by quarter turns to the left.
_BY_QUARTER_TURNS = (1, 8, 3, 6)


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
                return _display_matrix(frame, packet)
    return np.eye(2, dtype=np.int64)


def _display_matrix(frame: Any, packet: Any) -> NDArray[np.int64]:
    """The display matrix of a picture that came in some packet, or that of one as it is."""
    try:
        matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    except ValueError:
        # PyAV reads no side data of a picture that has some of a kind which it doesn't know, such
        # as the EXIF of motion JPEG; of a matrix it then tells the angle, without a mirroring.
        turn = orientation(bytes(packet), "JPEG") if packet else 1
        if turn == 1:
            turn = _BY_QUARTER_TURNS[round(frame.rotation / 90) % 4]
        return np.array(_BY_ORIENTATION[turn], dtype=np.int64)
    if matrix is None:
        return np.eye(2, dtype=np.int64)
    # Nine fixed-point numbers, a row of three at a time.
    rows = np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)[:2, :2]
    return np.rint(rows / 65536).astype(np.int64)
