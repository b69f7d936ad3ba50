"""What a worker does to a chunk of items, as plain functions: Ray is not known here."""

from __future__ import annotations

import re
import tempfile
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.decode import DecodeError, decode
from pipeline.errors import JobError, one_line
from pipeline.failpoints import failpoint
from pipeline.faults import is_machine_fault
from pipeline.limits import Limits, guarded
from pipeline.location import again, is_local, location, put_file
from pipeline.sampling import Sampling
from pipeline.shards import Format, ItemFeatures, ShardFile, write_shard
from pipeline.source import FileState, Source, opened, unread_state

# The class of an error that no decoder is known to raise: a defect of this program, or of a library
# over this one file.
INTERNAL = "internal"
# Of a traceback: its end tells most.
_MAX_TRACEBACK = 8000

# How decoders say that they were refused memory.
_OUT_OF_MEMORY = re.compile("cannot allocate|bad_alloc|out of memory", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an item has no features.

    Attributes:
        stage: where it failed: "decode" or "features".
        error: the class of the failure.
        message: one line.
        traceback: of an error that nobody foresaw, or None.
    """

    stage: str
    error: str
    message: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class DecodedItem:
    """What became of one item of a chunk; its frames travel apart.

    Attributes:
        source: the item.
        state: of its file; None if it could not be read.
        times_s: of its frames, [T]; empty for a rejected item.
        degraded: why only a part of the file could be read, or None.
        rejection: why it has no frames, or None.
    """

    source: Source
    state: FileState | None
    times_s: NDArray[np.float64]
    degraded: str | None = None
    rejection: Rejection | None = None


def rejected(source: Source, rejection: Rejection, state: FileState | None = None) -> DecodedItem:
    """An item that ends in quarantine; `state` is None where its file could not be read."""
    return DecodedItem(source, state or unread_state(source), np.zeros(0), rejection=rejection)


def unforeseen(source: Source, error: Exception, state: FileState | None = None) -> DecodedItem:
    """An item over which a decoder raised what it is not known to raise; called in an `except`."""
    line = one_line(f"{source.path}: {type(error).__name__}: {error}")
    raised = "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:]
    return rejected(source, Rejection("decode", INTERNAL, line, raised), state)


def unavailable(source: Source, error: Exception) -> DecodedItem:
    """An item that could not be tried, through a fault of the machine."""
    return rejected(source, Rejection("decode", "unavailable", one_line(f"{source.path}: {error}")))


def decode_source(
    source: Source,
    sampling: Sampling,
    size: int,
    limits: Limits,
    on_state: Callable[[FileState], None] = lambda _: None,
) -> tuple[DecodedItem, NDArray[np.uint8]]:
    """Decode one item; `on_state` is told of its file before anything is decoded.

    Returns:
        What became of it, and its frames, uint8 [T, size, size, 3]; none for a rejected one.

    Raises:
        MemoryError: it needs more memory than there is.
        JobError: no item can be read.
    """
    none = np.zeros((0, size, size, 3), np.uint8)
    # A file that is fetched for a while has another name, which tells a person nothing.
    name, state = str(source.path), None
    try:
        with opened(source) as (path, state):
            name = str(path)
            on_state(state)
            failpoint("decode", source.item.key)
            frames = decode(path, source.item, sampling, size, limits.max_pixels)
    except DecodeError as error:
        message = one_line(error.message.replace(name, str(source.path)))
        return rejected(source, Rejection("decode", error.error, message), state), none
    except (MemoryError, JobError):
        # For the caller to find out; and what concerns every item.
        raise
    except Exception as error:
        fault = unavailable(source, error) if is_machine_fault(error) else None
        return fault or unforeseen(source, error, state), none
    if frames.degraded and not limits.keep_degraded:
        message = one_line(f"{source.path}: {frames.degraded}")
        return rejected(source, Rejection("decode", "degraded", message), state), none
    return DecodedItem(source, state, frames.times_s, frames.degraded), frames.pixels


def decode_chunk(
    sources: Sequence[Source], sampling: Sampling, size: int, limits: Limits
) -> tuple[list[DecodedItem], NDArray[np.uint8]]:
    """Decode items one after the other. An item that takes too long ends the process.

    Returns:
        What became of each, and the frames of all, uint8 [sum of T, size, size, 3].

    Raises:
        MemoryError: one of them needs too much memory.
        JobError: no item can be read.
    """
    decoded: list[DecodedItem] = []
    frames = [np.zeros((0, size, size, 3), np.uint8)]
    for source in sources:
        try:
            with guarded(limits) as guard:
                item, pixels = decode_source(source, sampling, size, limits)
                why = item.rejection.message if item.rejection else item.degraded
                if why and (_OUT_OF_MEMORY.search(why) or guard.memory_ran_short()):
                    raise MemoryError(f"{source.path}: may need more memory")
        except OSError as error:
            # The guard could not be set: too many open files, say.
            item, pixels = unavailable(source, error), frames[0]
        decoded.append(item)
        frames.append(pixels)
    return decoded, np.concatenate(frames)


def write_features(
    target: str,
    format: Format,
    shape: tuple[int, ...],
    decoded: Sequence[DecodedItem],
    *parts: NDArray[np.float32],
) -> tuple[list[DecodedItem], ShardFile]:
    """Write an attempt at a shard.

    Args:
        target: path or URL of the shard without an ending. Each call writes a file of its own
            beside it, so that an attempt whose worker died does not stand in the way of the next.
        format: of the shard.
        shape: of one frame's features.
        decoded: the shard's items in order.
        parts: their features in the same order, float32 [frames, *shape] each.

    Returns:
        What became of each item, now with those whose features are not finite, and the file.

    Raises:
        OSError: it could not be written; tried four times.
    """
    values = np.concatenate(parts)
    ended: list[DecodedItem] = []
    rows: list[ItemFeatures] = []
    at = 0
    for item in decoded:
        mine = values[at : at + len(item.times_s)]
        at += len(item.times_s)
        if item.rejection is None and not np.isfinite(mine).all():
            message = one_line(f"{item.source.path}: its features are not finite")
            rejection = Rejection("features", "not_finite", message)
            item = replace(item, times_s=np.zeros(0), rejection=rejection)
        elif item.rejection is None:
            rows.append(ItemFeatures(item.source.item.key, item.times_s, mine))
        ended.append(item)
    assert at == len(values), f"{target}: {at} frames decoded, {len(values)} features made"
    file = _write_attempt(target, format, rows, shape)
    failpoint("written", Path(target).name)
    return ended, file


@again
def _write_attempt(
    target: str, format: Format, rows: Sequence[ItemFeatures], shape: tuple[int, ...]
) -> ShardFile:
    attempt = location(f"{target}.{uuid.uuid4().hex}")
    failpoint("write", Path(target).name)
    if is_local(attempt):
        return write_shard(attempt, format, rows, shape)
    with tempfile.TemporaryDirectory(prefix="intertitle-") as folder:
        local = Path(folder) / attempt.name
        file = write_shard(local, format, rows, shape)
        put_file(local, attempt)
    return replace(file, name=attempt.name)
