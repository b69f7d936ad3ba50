"""Plan of the packets that have to be decoded for the selected frames.

The packets are divided into clips, each of which is decoded at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from intertitle.pipeline.decoding.video.demux import IN_MEMORY_BYTES, VideoStream
from intertitle.pipeline.decoding.video.timeline import Timeline

# Maximum number of frames that a codec decodes before it outputs the first.
MAX_DELAY = 32


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """A clip: packets that are decoded together, and the frames that are selected from them.

    Attributes:
        packets: indices of the packets in the file, in decoding order.
        num_bytes: total size of the packets in bytes.
        starts: indices of the packets at which decoding can start.
        output_positions: position of each packet's frame in the decoder's output.
        frames: selected frames, as indices into `Timeline.starts_s`, ascending; [T].
        places: positions of the selected frames in the decoder's output, ascending; [T].
        by_time: whether a packet and its frame have the same time; otherwise frames can only be
            identified by counting.
    """

    packets: list[int]
    num_bytes: int
    starts: frozenset[int]
    output_positions: list[int]
    frames: list[int]
    places: list[int]
    by_time: bool


def plan_decoding(
    video: VideoStream, timeline: Timeline, frames: Iterable[int]
) -> Iterator[DecodePlan]:
    """Plan the decoding of frames.

    Args:
        video: stream with the packets of the video.
        timeline: readable frames of the video.
        frames: indices into `timeline.starts_s`, ascending, without repetitions.

    Yields:
        Clips that together contain each frame once, in order.
    """
    groups: dict[int, list[int]] = {}
    for frame in frames:
        start = _start_of(timeline, int(timeline.packets[frame]))
        groups.setdefault(start, []).append(int(frame))
    joined: DecodePlan | None = None
    for start, clip_frames in groups.items():
        clip = _clip(video, timeline, start, clip_frames)
        if joined is None:
            joined = clip
        elif start in timeline.idr and not video.coloured and _fits(joined, clip):
            joined = _join(joined, clip)
        else:
            yield joined
            joined = clip
    if joined is not None:
        yield joined


def _start_of(timeline: Timeline, packet: int) -> int:
    """Return the packet at which decoding has to start to get the frame of a packet."""
    starts, pts = timeline.starts, timeline.pts
    # If frames are counted, there is one start.
    index = int(np.searchsorted(starts, packet, side="right")) - 1
    while index > 0 and pts[starts[index]] > pts[packet]:
        index -= 1
    return int(starts[index])


def _clip(video: VideoStream, timeline: Timeline, start: int, frames: list[int]) -> DecodePlan:
    """Return the clip from a start packet to the last of some frames."""
    frame_packets = timeline.packets[frames]
    if timeline.by_time:
        span = np.arange(start, frame_packets.max() + 1)
        # Skip packets that no later frame depends on, and packets that depend on frames before
        # the start.
        is_needed = ~timeline.disposable[span] & (timeline.pts[span] >= timeline.pts[start])
        is_needed[frame_packets - start] = True
        packets = span[is_needed]
        pictures = packets[~timeline.no_show[packets]]
        order = pictures[np.lexsort((pictures, timeline.pts[pictures]))].tolist()
        place = {packet: index for index, packet in enumerate(order)}
        places = [place[packet] for packet in frame_packets.tolist()]
        by_time = len(pictures) == len(packets)
    else:
        end = min(int(frame_packets.max()) + 1 + MAX_DELAY, len(video.packets))
        packets = np.arange(start, end)
        places, by_time = frames, False
    packet_list = packets.tolist()
    return DecodePlan(
        packets=packet_list,
        num_bytes=sum(video.packets[packet].size for packet in packet_list),
        starts=frozenset(packet_list).intersection(timeline.starts.tolist()),
        output_positions=[place[packet] for packet in packet_list]
        if by_time
        else list(range(len(packet_list))),
        frames=frames,
        places=places,
        by_time=by_time,
    )


def _fits(clip: DecodePlan, next_clip: DecodePlan) -> bool:
    small = clip.num_bytes + next_clip.num_bytes <= IN_MEMORY_BYTES
    return clip.by_time and next_clip.by_time and small


def _join(clip: DecodePlan, next_clip: DecodePlan) -> DecodePlan:
    shift = len(clip.packets)
    return DecodePlan(
        packets=clip.packets + next_clip.packets,
        num_bytes=clip.num_bytes + next_clip.num_bytes,
        starts=clip.starts.union(next_clip.starts),
        output_positions=clip.output_positions
        + [place + shift for place in next_clip.output_positions],
        frames=clip.frames + next_clip.frames,
        places=clip.places + [place + shift for place in next_clip.places],
        by_time=True,
    )
