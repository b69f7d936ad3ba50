"""Records of items: made from the result of decoding, and checked against the items' files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import ItemFile, file_stat, hash_item_file
from intertitle.pipeline.feature_store.snapshot import ItemRecord
from intertitle.pipeline.precompute.work import DecodedItem

# Classes of failure that do not depend on the item: the next call tries the item again.
RETRIED_ERRORS = frozenset({"unavailable", "killed"})


def record_of(item: DecodedItem, shard: str | None = None, row: int | None = None) -> ItemRecord:
    """Return the record of an item; an item that is not rejected is in a shard."""
    state, rejection = item.state, item.rejection
    return ItemRecord(
        key=item.source.item.key,
        source=item.source.item.uri,
        selection=item.source.item.selection,
        sha256=state.sha256 if state else None,
        size_bytes=state.size_bytes if state else None,
        mtime_ns=state.mtime_ns if state else None,
        shard=None if rejection else shard,
        row=None if rejection else row,
        num_frames=None if rejection else len(item.times_s),
        stage=rejection.stage if rejection else None,
        error=rejection.error if rejection else None,
        message=rejection.message if rejection else None,
        degraded=item.degraded,
        traceback=rejection.traceback if rejection else None,
    )


def still_holds(
    source: ItemFile,
    record: ItemRecord,
    on_unavailable: Callable[[DecodeError], None] = lambda _: None,
) -> ItemRecord | None:
    """Return the up-to-date record of an item, or None if the item has changed.

    Args:
        source: item with its corpus.
        record: record of the item in the last snapshot.
        on_unavailable: callback for a file that the machine or the network cannot check now.
    """
    if record.selection != source.item.selection:
        return None
    missing = replace(record, file_missing=record.is_stored)
    try:
        size_and_time = file_stat(source)
    except DecodeError as error:
        on_unavailable(error)
        return missing
    if size_and_time is None:
        if record.is_stored:
            # Features stay while their file is missing, unless the item now names another file.
            return missing if record.source == source.item.uri else None
        return record if record.size_bytes is None else None
    present = replace(record, file_missing=False) if record.file_missing else record
    as_it_was = (record.source, record.size_bytes, record.mtime_ns)
    if (source.item.uri, *size_and_time) == as_it_was:
        return present
    try:
        state = hash_item_file(source) if record.sha256 else None
    except DecodeError as error:
        on_unavailable(error)
        return missing if size_and_time[0] == record.size_bytes else None
    if state is None and size_and_time[0] < 0 and record.source == source.item.uri:
        # A server that gives no size now refuses the file, or has it no more.
        return missing
    if state is None or state.sha256 != record.sha256:
        return None
    # The file was moved or touched, but its content is the same. The record is updated so that the
    # next call need not hash it again.
    return replace(present, source=source.item.uri, mtime_ns=state.mtime_ns)
