"""Which packets the wanted pictures need: clips, each to be decoded in one go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.packets import IN_MEMORY_BYTES, VideoStream
from pipeline.timeline import Timeline

# No codec holds back more pictures than this before it shows the first.
MAX_DELAY = 32


@dataclass(frozen=True, slots=True)
class Clip:
    """Packets to be decoded together, and which pictures among them are wanted.

    Attributes:
        packets: by place in the file, in the order of decoding.
        num_bytes: of all of them.
        starts: those of them at which decoding can begin.
        shown: where the picture of each comes in the order in which the decoder gives them.
        frames: the wanted pictures, as indices into `Timeline.starts_s`, ascending; [T].
        places: where each of those comes in the decoder's order, ascending; [T].
        num_pictures: how many the decoder gives, at least.
        by_time: a packet and its picture bear the same time; otherwise only counting tells.
    """

    packets: list[int]
    num_bytes: int
    starts: frozenset[int]
    shown: list[int]
    frames: list[int]
    places: list[int]
    num_pictures: int
    by_time: bool


def plan_clips(video: VideoStream, timeline: Timeline, frames: Iterable[int]) -> Iterator[Clip]:
    """Plan how to decode pictures.

    Args:
        video: what the packets are.
        timeline: which pictures they give.
        frames: indices into `timeline.starts_s`, ascending, each once.

    Yields:
        Clips that hold each of them once, in order.
    """
    groups: dict[int, list[int]] = {}
    for frame in frames:
        start = _start_of(timeline, int(timeline.packets[frame]))
        groups.setdefault(start, []).append(int(frame))
    joined: Clip | None = None
    for start, wanted in groups.items():
        clip = _clip(video, timeline, start, wanted)
        if joined is None:
            joined = clip
        elif start in timeline.joins and not video.coloured and _fits(joined, clip):
            joined = _join(joined, clip)
        else:
            yield joined
            joined = clip
    if joined is not None:
        yield joined


def _start_of(timeline: Timeline, packet: int) -> int:
    """From which packet to decode to see a packet's picture."""
    starts, pts = timeline.starts, timeline.pts
    if not timeline.by_time:
        return int(starts[0])
    at = int(np.searchsorted(starts, packet, side="right")) - 1
    while at > 0 and pts[starts[at]] > pts[packet]:
        at -= 1
    return int(starts[max(at, 0)])


def _clip(video: VideoStream, timeline: Timeline, start: int, frames: list[int]) -> Clip:
    """The clip from a start to the last of some frames."""
    wanted = timeline.packets[frames]
    if timeline.by_time:
        span = np.arange(start, wanted.max() + 1)
        # Left out: what no later picture leans on, and what leans on pictures before the start.
        need = ~timeline.spare[span] & (timeline.pts[span] >= timeline.pts[start])
        need[wanted - start] = True
        packets = span[need]
        pictures = packets[~timeline.hidden[packets]]
        order = pictures[np.lexsort((pictures, timeline.pts[pictures]))].tolist()
        place = {packet: index for index, packet in enumerate(order)}
        places = [place[packet] for packet in wanted.tolist()]
        num_pictures = len(pictures)
        by_time = len(pictures) == len(packets)
    else:
        end = min(int(wanted.max()) + 1 + MAX_DELAY, len(video.packets))
        packets = np.arange(start, end)
        places, num_pictures, by_time = frames, frames[-1] + 1, False
    listed = packets.tolist()
    return Clip(
        packets=listed,
        num_bytes=sum(video.packets[packet].size for packet in listed),
        starts=frozenset(listed).intersection(timeline.starts.tolist()),
        shown=[place[packet] for packet in listed] if by_time else list(range(len(listed))),
        frames=frames,
        places=places,
        num_pictures=num_pictures,
        by_time=by_time,
    )


def _fits(clip: Clip, other: Clip) -> bool:
    small = clip.num_bytes + other.num_bytes <= IN_MEMORY_BYTES
    return clip.by_time and other.by_time and small


def _join(clip: Clip, other: Clip) -> Clip:
    shift = clip.num_pictures
    return Clip(
        packets=clip.packets + other.packets,
        num_bytes=clip.num_bytes + other.num_bytes,
        starts=clip.starts | other.starts,
        shown=clip.shown + [place + shift for place in other.shown],
        frames=clip.frames + other.frames,
        places=clip.places + [place + shift for place in other.places],
        num_pictures=shift + other.num_pictures,
        by_time=True,
    )
