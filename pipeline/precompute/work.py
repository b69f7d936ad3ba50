"""Decoding and writing of a chunk of items, as plain functions without Ray."""

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

from intertitle.pipeline.decoding.decode import DecodeError, decode
from intertitle.pipeline.decoding.item_file import (
    FileState,
    ItemFile,
    open_item_file,
    unread_file_state,
)
from intertitle.pipeline.decoding.limits import Limits, resource_limits
from intertitle.pipeline.decoding.sampling import Sampling
from intertitle.pipeline.errors import JobError, one_line
from intertitle.pipeline.feature_store.shards import Format, ItemFeatures, ShardFile, write_shard
from intertitle.pipeline.storage.failpoints import failpoint
from intertitle.pipeline.storage.faults import is_machine_fault
from intertitle.pipeline.storage.paths import as_path, is_local, put_file, retry_io

# Class of an unexpected error, which no decoder is known to raise: a defect of this program, or a
# defect of a library that this file triggers.
INTERNAL = "internal"
# Maximum number of characters kept from the end of a traceback, its most useful part.
_MAX_TRACEBACK = 8000

# Messages with which decoders report that an allocation failed.
_OUT_OF_MEMORY = re.compile("cannot allocate|bad_alloc|out of memory", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason why an item has no features.

    Attributes:
        stage: stage that failed, "decode" or "features".
        error: class of the failure.
        message: description in one line.
        traceback: traceback of an unexpected error, or None.
    """

    stage: str
    error: str
    message: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class DecodedItem:
    """Result of decoding one item of a chunk; its frames are passed separately.

    Attributes:
        source: decoded item.
        state: size, time and hash of the item's file; None if it could not be read.
        times_s: times of the frames in seconds, float64 [T]; empty for a rejected item.
        degraded: reason why only a part of the file could be read, or None.
        rejection: reason why the item has no frames, or None.
    """

    source: ItemFile
    state: FileState | None
    times_s: NDArray[np.float64]
    degraded: str | None = None
    rejection: Rejection | None = None


def rejected(source: ItemFile, rejection: Rejection, state: FileState | None = None) -> DecodedItem:
    """Return an item as rejected; `state` is None if its file could not be read."""
    return DecodedItem(source, state or unread_file_state(source), np.zeros(0), rejection=rejection)


def unforeseen(source: ItemFile, error: Exception, state: FileState | None = None) -> DecodedItem:
    """Return an item as rejected because of an unexpected error; called in an `except` block."""
    line = one_line(f"{source.name}: {type(error).__name__}: {error}")
    raised = "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:]
    return rejected(source, Rejection("decode", INTERNAL, line, raised), state)


def unavailable(source: ItemFile, error: Exception) -> DecodedItem:
    """Return an item as rejected because a fault of the machine prevented decoding."""
    # Not `source.path`, which raises an error if the item's host is not allowed.
    message = one_line(f"{source.item.uri}: {error}")
    return rejected(source, Rejection("decode", "unavailable", message))


def decode_source(
    source: ItemFile,
    sampling: Sampling,
    size: int,
    limits: Limits,
    on_state: Callable[[FileState], None] = lambda _: None,
) -> tuple[DecodedItem, NDArray[np.uint8]]:
    """Decode one item.

    Args:
        source: item to decode.
        sampling: rule that selects the frames of a video.
        size: height and width of the frames in pixels.
        limits: limits on the resources that decoding may use.
        on_state: callback that receives the state of the item's file before decoding starts.

    Returns:
        The decoded or rejected item, and its frames, uint8 [T * window, size, size, 3]; a rejected
        item has no frames.

    Raises:
        MemoryError: the item needs more memory than there is.
        JobError: no item can be read.
    """
    no_frames = np.zeros((0, size, size, 3), np.uint8)
    # The temporary copy of a remote file has a meaningless name, so messages get the original one.
    name, state = source.name, None
    try:
        with open_item_file(source, limits) as (path, state):
            name = str(path)
            on_state(state)
            failpoint("decode", source.item.key)
            frames = decode(path, source.item, sampling, size, limits.max_pixels)
    except DecodeError as error:
        message = one_line(error.message.replace(name, source.name))
        return rejected(source, Rejection("decode", error.error, message), state), no_frames
    except (MemoryError, JobError):
        # The caller handles a lack of memory; a `JobError` concerns every item.
        raise
    except Exception as error:
        fault = unavailable(source, error) if is_machine_fault(error) else None
        return fault or unforeseen(source, error, state), no_frames
    if frames.degraded and not limits.keep_degraded:
        message = one_line(f"{source.name}: {frames.degraded}")
        return rejected(source, Rejection("decode", "degraded", message), state), no_frames
    return DecodedItem(source, state, frames.times_s, frames.degraded), frames.pixels


def decode_chunk(
    sources: Sequence[ItemFile], sampling: Sampling, size: int, limits: Limits
) -> tuple[list[DecodedItem], NDArray[np.uint8]]:
    """Decode items one after the other; an item that exceeds its time limit ends the process.

    Returns:
        The decoded or rejected items, and the frames of all, uint8 [sum of T, size, size, 3].

    Raises:
        MemoryError: one of the items needs too much memory.
        JobError: no item can be read.
    """
    decoded: list[DecodedItem] = []
    frames = [np.zeros((0, size, size, 3), np.uint8)]
    for source in sources:
        try:
            with resource_limits(limits) as guard:
                item, pixels = decode_source(source, sampling, size, limits)
                message = item.rejection.message if item.rejection else item.degraded
                if message and (_OUT_OF_MEMORY.search(message) or guard.memory_ran_short()):
                    raise MemoryError(f"{source.name}: may need more memory")
        except OSError as error:
            # The resource limits could not be set, for example because too many files are open.
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
        target: path or URL of the shard without a suffix. Each call appends a unique suffix, so
            that the file of a failed attempt does not block the next attempt.
        format: file format of the shard.
        shape: shape of one frame's features.
        decoded: items of the shard, in order.
        parts: features of the items in the same order, float32 [frames, *shape] each.

    Returns:
        The items, of which those with features that are not finite are now rejected, and the file.

    Raises:
        OSError: the shard could not be written in four tries.
    """
    values = np.concatenate(parts)
    items: list[DecodedItem] = []
    rows: list[ItemFeatures] = []
    row = 0
    for item in decoded:
        item_features = values[row : row + len(item.times_s)]
        row += len(item.times_s)
        if item.rejection is None and not np.isfinite(item_features).all():
            message = one_line(f"{item.source.name}: its features are not finite")
            rejection = Rejection("features", "not_finite", message)
            item = replace(item, times_s=np.zeros(0), degraded=None, rejection=rejection)
        elif item.rejection is None:
            rows.append(ItemFeatures(item.source.item.key, item.times_s, item_features))
        items.append(item)
    assert row == len(values), f"{target}: {row} frames decoded, {len(values)} features made"
    file = _write_attempt(target, format, rows, shape)
    failpoint("written", Path(target).name)
    return items, file


@retry_io
def _write_attempt(
    target: str, format: Format, rows: Sequence[ItemFeatures], shape: tuple[int, ...]
) -> ShardFile:
    attempt = as_path(f"{target}.{uuid.uuid4().hex}")
    failpoint("write", Path(target).name)
    if is_local(attempt):
        return write_shard(attempt, format, rows, shape)
    with tempfile.TemporaryDirectory(prefix="intertitle-") as folder:
        local = Path(folder) / attempt.name
        file = write_shard(local, format, rows, shape)
        put_file(local, attempt)
    return replace(file, name=attempt.name)
