"""Which pictures of a video can be decoded, and when each is shown: known from its packets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.bitstream import TELLS_EARLY, Traits
from pipeline.containers import ProbeError
from pipeline.packets import VideoStream


@dataclass(frozen=True, slots=True)
class Timeline:
    """The N readable pictures among the P packets of a video.

    Attributes:
        starts_s: when each picture begins to be shown, counted from the first, float64 [N],
            strictly ascending.
        end_s: when the last one ceases to be shown.
        degraded: why a part can't be read, or None.
        packets: in which packet each picture comes; [N].
        pts: the order in which the packets' pictures are shown; [P].
        by_time: a packet and its picture bear the same time; otherwise only counting tells.
        starts: packets at which decoding can begin, ascending.
        joins: those of them that may also follow anything else without the decoder being reset.
        spare: which packets no later picture leans on; [P].
        hidden: which give no picture; [P].
    """

    starts_s: NDArray[np.float64]
    end_s: float
    degraded: str | None
    packets: NDArray[np.int64]
    pts: NDArray[np.int64]
    by_time: bool
    starts: NDArray[np.int64]
    joins: frozenset[int]
    spare: NDArray[np.bool_]
    hidden: NDArray[np.bool_]


def arrange(video: VideoStream) -> Timeline:
    """Find the readable pictures, their order and their times.

    Raises:
        ProbeError: there are none.
    """
    count = len(video.packets)
    pts, unit_s, by_time = _times(video)
    traits = [packet.traits for packet in video.packets]
    level = max(trait.spare for trait in traits)
    spare = np.array([trait.spare == level >= 0 for trait in traits])
    hidden = np.array(_hidden(traits))
    starts = [
        place
        for place, packet in enumerate(video.packets)
        if packet.key and _begins(video, pts, spare, place)
    ]
    starts = (starts if by_time else starts[:1]) or [0]

    whole = np.array([trait.whole for trait in traits])
    readable = _readable(whole, set(starts), pts if by_time else None)
    degraded = video.degraded
    if degraded is None and not whole.all():
        degraded = f"damaged: {int(readable.sum())} of {count} frames can be read"
    shown = readable & ~hidden & ~np.array([packet.discard for packet in video.packets])
    if not shown.any():
        raise ProbeError("unreadable", "none of its frames is whole")
    order = np.lexsort((np.arange(count), pts))
    packets = order[shown[order]]

    times = pts[packets] - pts[packets[0]]
    gaps = np.diff(times)
    usual = int(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 0
    last = (video.packets[packets[-1]].duration if by_time else 0) or usual
    return Timeline(
        starts_s=_spread(times, last or 1) * unit_s,
        end_s=float(times[-1] + last) * unit_s,
        degraded=degraded,
        packets=packets,
        pts=pts,
        by_time=by_time,
        starts=np.array(starts),
        joins=frozenset(place for place in starts if traits[place].joins),
        spare=spare,
        hidden=hidden,
    )


def _hidden(traits: list[Traits]) -> list[bool]:
    """Which packets give no picture, be it their own or the second of an earlier one."""
    hidden, owed = [], 0
    for trait in traits:
        owed += trait.packed
        repaid = trait.hidden and owed > 0
        owed -= repaid
        hidden.append(trait.hidden and not repaid)
    return hidden


def _times(video: VideoStream) -> tuple[NDArray[np.int64], float, bool]:
    """The packets' times of showing, their unit in seconds, and whether they are their pictures'.

    If they are not, pictures come in the order of these times, whichever packet holds which.
    """
    count = len(video.packets)
    unit_s = video.time_base
    times = [packet.pts for packet in video.packets if packet.pts is not None]
    by_time = len(times) == count and (count == 1 or len(set(times)) > 1)
    by_time = by_time and not _are_guessed(video)
    if not by_time:
        times = sorted(packet.dts for packet in video.packets if packet.dts is not None)
        if len(times) != count or len(set(times)) < 2:
            times, unit_s = list(range(count)), 1 / video.rate
    return np.array(times, dtype=np.int64), unit_s, by_time


def _are_guessed(video: VideoStream) -> bool:
    """Whether the times of showing can't be those of the packets' pictures.

    Whatever wrote or read the file guessed them, or several pictures came in one packet.
    """
    if video.source.format == "avi" and video.reorders and video.codec in ("h264", "hevc"):
        # AVI has no times of showing.
        return True
    if any(packet.traits.packed for packet in video.packets):
        return True
    latest, falls, right, wrong = None, False, 0, 0
    for packet in video.packets:
        if packet.pts is None:
            continue
        back = latest is not None and packet.pts < latest
        latest = packet.pts if latest is None else max(latest, packet.pts)
        falls = falls or back
        right += packet.traits.early and back
        wrong += packet.traits.early and not back
    if video.codec in TELLS_EARLY:
        # Where a packet has been lost a few are wrong.
        return wrong > right
    return video.reorders and not falls and len(video.packets) > 1


def _begins(
    video: VideoStream, pts: NDArray[np.int64], spare: NDArray[np.bool_], place: int
) -> bool:
    """Whether decoding can begin at a key."""
    traits = video.packets[place].traits
    if not traits.start or not traits.whole:
        return False
    # H.264 counts the pictures that others lean on: none may be left out after the key.
    after = place + 1
    while after < len(pts) and pts[after] < pts[place]:
        if video.codec == "h264" and not spare[after]:
            return False
        after += 1
    return True


def _readable(
    whole: NDArray[np.bool_], starts: set[int], pts: NDArray[np.int64] | None
) -> NDArray[np.bool_]:
    """Which packets have all they lean on: from a start to the first damage after it.

    Args:
        whole: which packets are; [P].
        starts: where decoding can begin.
        pts: when their pictures are shown; [P]. None if that is not known.
    """
    readable = np.zeros(len(whole), dtype=bool)
    alive, floor = False, 0
    for place, sound in enumerate(whole.tolist()):
        if place in starts and not alive:
            # What is shown before this leans on what is not there.
            alive, floor = True, 0 if pts is None else int(pts[place])
        alive = alive and sound
        readable[place] = alive and (pts is None or pts[place] >= floor)
    return readable


def _spread(times: NDArray[np.int64], last: int) -> NDArray[np.float64]:
    """Share out the time of pictures that claim the same one; `last` is the last one's duration."""
    unique, which, counts = np.unique(times, return_inverse=True, return_counts=True)
    lasts = np.diff(unique, append=unique[-1] + last)
    rank = np.arange(len(times)) - (np.cumsum(counts) - counts)[which]
    return np.asarray(unique[which] + lasts[which] * rank / counts[which], dtype=np.float64)
