"""Analysis of a video file before its frames are decoded: packets, timeline and orientation."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

from intertitle.pipeline.decoding.images.metadata import orientation
from intertitle.pipeline.decoding.video.demux import VideoStream, scan, video_file
from intertitle.pipeline.decoding.video.timeline import Timeline, arrange

# Display matrices by EXIF orientation.
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
# EXIF orientations by the number of counterclockwise quarter turns.
_BY_QUARTER_TURNS = (1, 8, 3, 6)


@dataclass(frozen=True, slots=True)
class Track:
    """The video of a file.

    Attributes:
        video: stream with the packets.
        timeline: readable frames and their times.
        matrix: display matrix that rotates or mirrors the frame, int64 [2, 2]: (x, y) of the
            coded frame is shown at (x, y) @ matrix.
    """

    video: VideoStream
    timeline: Timeline
    matrix: NDArray[np.int64]


def probe(file: BinaryIO, max_pixels: int) -> Track:
    """Read all packets of a file once, and return its video.

    Args:
        file: open binary file, which is not closed.
        max_pixels: maximum number of pixels of a frame in the file, width times height.

    Raises:
        ProbeError: the file is not a video, or its frames have more than `max_pixels`.
    """
    source = video_file(file, max_pixels)
    with source.open() as stream:
        video = scan(source, stream)
        timeline = arrange(video)
        return Track(video, timeline, _orientation(video, timeline, stream))


def verify(track: Track) -> Track:
    """Decode a whole video to find the packets that cannot be decoded; used after a decoding error.

    Raises:
        ProbeError: no frame can be decoded.
    """
    video, timeline = track.video, track.timeline
    decoded_pts: list[int | None] = []
    with video.source.open() as stream:
        stream.thread_count = 1
        for packet in [*video.read(stream, range(len(video.packets))), None]:
            with suppress(av.FFmpegError):
                frames = stream.codec_context.decode(packet)
                decoded_pts.extend(frame.pts for frame in frames if not frame.is_corrupt)
    times = set(decoded_pts)
    packets = list(video.packets)
    for place, packet in enumerate(packets):
        decoded = packet.pts in times if timeline.by_time else place < len(decoded_pts)
        if not (decoded or packet.discard or packet.traits.no_show):
            packets[place] = packet._replace(traits=packet.traits._replace(intact=False))
    # The reason that was found first is kept.
    video = replace(video, packets=packets, degraded=timeline.degraded)
    return replace(track, video=video, timeline=arrange(video))


def _orientation(video: VideoStream, timeline: Timeline, stream: Any) -> NDArray[np.int64]:
    """Return the display matrix of the first frame, from the container or the stream."""
    for packet in [*video.read(stream, [int(timeline.starts[0])]), None]:
        with suppress(av.FFmpegError):
            for frame in stream.codec_context.decode(packet):
                return _display_matrix(frame, packet)
    return np.eye(2, dtype=np.int64)


def _display_matrix(frame: Any, packet: Any) -> NDArray[np.int64]:
    """Return the display matrix of a frame and its packet; the identity if it has none."""
    try:
        matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    except ValueError:
        # PyAV cannot read the side data of a frame if any of it is of an unknown type, such as
        # the EXIF data of motion JPEG. It then only provides the rotation angle without mirroring.
        turn = orientation(bytes(packet), "JPEG") if packet else 1
        if turn == 1:
            turn = _BY_QUARTER_TURNS[round(frame.rotation / 90) % 4]
        return np.array(_BY_ORIENTATION[turn], dtype=np.int64)
    if matrix is None:
        return np.eye(2, dtype=np.int64)
    # Nine fixed-point numbers in rows of three.
    rows = np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)[:2, :2]
    return np.rint(rows / 65536).astype(np.int64)
