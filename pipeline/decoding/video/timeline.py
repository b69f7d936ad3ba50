"""Timeline of a video: the readable frames and their times, determined from its packets."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.video.bitstream import TELLS_EARLY, PacketTraits
from intertitle.pipeline.decoding.video.demux import VideoStream


@dataclass(frozen=True, slots=True)
class Timeline:
    """The N readable frames among the P packets of a video.

    Attributes:
        starts_s: start times of the frames in seconds from the first, float64 [N], strictly
            ascending.
        end_s: end time of the last frame in seconds from the start of the first.
        degraded: reason why a part cannot be read, or None.
        packets: index of the packet of each frame; [N].
        pts: presentation times of the packets' frames, which give their order; [P].
        by_time: whether a packet and its frame have the same time; otherwise frames can only be
            identified by counting.
        starts: indices of the packets at which decoding can start, ascending.
        idr: subset of `starts` that may follow any other packet without a reset of the decoder.
        disposable: mask of the packets that no later frame depends on; [P].
        no_show: mask of the packets that give no frame; [P].
    """

    starts_s: NDArray[np.float64]
    end_s: float
    degraded: str | None
    packets: NDArray[np.int64]
    pts: NDArray[np.int64]
    by_time: bool
    starts: NDArray[np.int64]
    idr: frozenset[int]
    disposable: NDArray[np.bool_]
    no_show: NDArray[np.bool_]


def arrange(video: VideoStream) -> Timeline:
    """Find the readable frames, their order and their times.

    Raises:
        ProbeError: there are no readable frames.
    """
    count = len(video.packets)
    pts, unit_s, by_time = _times(video)
    traits = [packet.traits for packet in video.packets]
    level = max(trait.disposable for trait in traits)
    disposable = np.array([trait.disposable == level >= 0 for trait in traits])
    no_show = np.array(_hidden(traits))
    starts = [
        place
        for place, packet in enumerate(video.packets)
        if packet.key and _begins(video, pts, disposable, place)
    ]
    starts = (starts if by_time else starts[:1]) or [0]

    undamaged = np.array([trait.intact for trait in traits])
    readable = _readable(undamaged, set(starts), pts)
    degraded = video.degraded
    if degraded is None and not undamaged.all():
        degraded = f"damaged: {int(readable.sum())} of {count} frames can be read"
    visible = readable & ~no_show & ~np.array([packet.discard for packet in video.packets])
    if not visible.any():
        raise ProbeError("unreadable", "none of its frames is whole")
    order = np.argsort(pts, kind="stable")
    packets = order[visible[order]]

    times = pts[packets] - pts[packets[0]]
    gaps = np.diff(times)
    median_gap = int(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 0
    last_duration = (video.packets[packets[-1]].duration if by_time else 0) or median_gap
    return Timeline(
        starts_s=_spread(times, last_duration or 1) * unit_s,
        end_s=float(times[-1] + last_duration) * unit_s,
        degraded=degraded,
        packets=packets,
        pts=pts,
        by_time=by_time,
        starts=np.array(starts),
        idr=frozenset(place for place in starts if traits[place].idr),
        disposable=disposable,
        no_show=no_show,
    )


def _hidden(traits: list[PacketTraits]) -> list[bool]:
    """Return which packets give no frame, neither their own nor the second of an earlier one."""
    hidden, num_pending = [], 0
    for trait in traits:
        num_pending += trait.packed
        shows_pending = trait.no_show and num_pending > 0
        num_pending -= shows_pending
        hidden.append(trait.no_show and not shows_pending)
    return hidden


def _times(video: VideoStream) -> tuple[NDArray[np.int64], float, bool]:
    """Return the packets' times, their unit in seconds, and whether they are their frames' times.

    If they are not, frames are output in the order of these times, whichever packet holds them.
    """
    count = len(video.packets)
    unit_s = video.time_base
    times = [packet.pts for packet in video.packets if packet.pts is not None]
    by_time = len(times) == count and (count == 1 or len(set(times)) > 1)
    by_time = by_time and not _are_guessed(video, np.array(times))
    if not by_time:
        times = sorted(packet.dts for packet in video.packets if packet.dts is not None)
        if len(times) != count or len(set(times)) < 2:
            times, unit_s = list(range(count)), 1 / video.rate
    return np.array(times, dtype=np.int64), unit_s, by_time


def _are_guessed(video: VideoStream, pts: NDArray[np.int64]) -> bool:
    """Return whether the presentation times of all packets cannot be those of their frames.

    Either the writer or the demuxer of the file guessed them, or a packet holds several frames.
    """
    if video.source.format == "avi" and video.reorders and video.codec in ("h264", "hevc"):
        # AVI stores no presentation times.
        return True
    if any(packet.traits.packed for packet in video.packets):
        return True
    is_earlier = pts < np.maximum.accumulate(pts)
    if video.source.format == "mpegvideo" and is_earlier.any():
        # A stream without a container stores no times; FFmpeg gives some to the wrong frames.
        return True
    if video.codec in TELLS_EARLY:
        early = np.array([packet.traits.early for packet in video.packets])
        # A few times may be wrong where a packet is missing.
        return bool((early & ~is_earlier).sum() > (early & is_earlier).sum())
    return video.reorders and not is_earlier.any() and len(pts) > 1


def _begins(
    video: VideoStream, pts: NDArray[np.int64], spare: NDArray[np.bool_], place: int
) -> bool:
    """Return whether decoding can start at a keyframe."""
    traits = video.packets[place].traits
    if not traits.start or not traits.intact:
        return False
    # H.264 numbers its reference frames consecutively, so none may be skipped after the keyframe.
    earlier = takewhile(lambda after: pts[after] < pts[place], range(place + 1, len(pts)))
    return video.codec != "h264" or all(spare[after] for after in earlier)


def _readable(
    intact: NDArray[np.bool_], starts: set[int], pts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which packets can be decoded: those from a start to the first damage after it.

    Args:
        intact: mask of the undamaged packets; [P].
        starts: indices of the packets at which decoding can start.
        pts: presentation times of the packets' frames; [P].
    """
    readable = np.zeros(len(intact), dtype=bool)
    start: int | None = None
    for place, is_intact in enumerate(intact.tolist()):
        if start is None and place in starts:
            start = place
        if not is_intact:
            start = None
        # Frames that are shown before the start depend on frames that cannot be decoded.
        readable[place] = start is not None and pts[place] >= pts[start]
    return readable


def _spread(times: NDArray[np.int64], last: int) -> NDArray[np.float64]:
    """Space out frames that have the same time; `last` is the duration of the last frame."""
    unique, group, counts = np.unique(times, return_inverse=True, return_counts=True)
    durations = np.diff(unique, append=unique[-1] + last)
    rank = np.arange(len(times)) - (np.cumsum(counts) - counts)[group]
    return np.asarray(unique[group] + durations[group] * rank / counts[group], dtype=np.float64)
