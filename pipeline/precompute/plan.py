"""Plan of the shards that a store lacks, and acceptance of finished shards.

Both depend only on the corpus and the store, never on which worker does the work or in which order.
Items are kept in Arrow tables: a plan for a million items takes a few hundred megabytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from upath import UPath

from intertitle.pipeline.corpus import Corpus, Item, items_of
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import ItemFile, file_stat, hash_item_file
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.failpoints import failpoint
from intertitle.pipeline.feature_store.fingerprint import Fingerprint
from intertitle.pipeline.feature_store.shards import SUFFIXES, Format, ShardFile
from intertitle.pipeline.feature_store.snapshot import (
    RECORD_SCHEMA,
    ItemRecord,
    Snapshot,
    load_snapshot,
    records_of,
    table_of,
    write_snapshot,
)
from intertitle.pipeline.precompute.versions import made_by
from intertitle.pipeline.precompute.work import INTERNAL, DecodedItem
from intertitle.pipeline.storage.paths import rename

# Classes of failure that do not depend on the item: the next call tries the item again.
RETRIED_ERRORS = frozenset({"unavailable", "killed"})

_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A shard to compute: fixed items in a fixed order.

    Attributes:
        number: number of the shard in its store.
        rows: row numbers of its items in the corpus.
        sources: items of the shard.
        address: hash of the shard's inputs. The accepted shard is recorded under this name until a
            snapshot lists it.
    """

    number: int
    rows: NDArray[np.int64]
    sources: tuple[ItemFile, ...]
    address: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of the work for a corpus.

    Attributes:
        corpus: path or URL of the corpus.
        items: table of all items of the corpus, in order.
        fingerprint: fingerprint of the features.
        valid_records: records of the last snapshot that are still valid.
        valid_rows: row numbers of the items of `valid_records` in the corpus.
        todo_rows: row numbers of the items to process.
        limits: limits on the resources that decoding an item may use.
        retry_failed: whether failed items are tried again.
        first_shard: number of the first shard to compute.
        shard_items: number of items per shard.
    """

    corpus: str
    items: pa.Table
    fingerprint: Fingerprint
    valid_records: pa.Table
    valid_rows: NDArray[np.int64]
    todo_rows: NDArray[np.int64]
    limits: Limits
    retry_failed: bool
    first_shard: int
    shard_items: int

    def shards(self) -> Iterator[ShardPlan]:
        """Yield the shards to compute, in order."""
        for n, at in enumerate(range(0, len(self.todo_rows), self.shard_items)):
            rows = self.todo_rows[at : at + self.shard_items]
            items = items_of(self.items.take(pa.array(rows)))
            number = self.first_shard + n
            content = f"{self.fingerprint.to_json()}|{self.limits}|{number}|{items}"
            address = hashlib.sha256(content.encode())
            sources = tuple(ItemFile(item, self.corpus) for item in items)
            yield ShardPlan(number, rows, sources, address.hexdigest()[:32])


def make_plan(
    corpus: Corpus,
    store: UPath,
    before: Snapshot | None,
    fingerprint: Fingerprint,
    shard_items: int,
    limits: Limits,
    retry_failed: bool = False,
    retry_unavailable: bool = True,
) -> Plan:
    """Compare a corpus with a store's last snapshot.

    Args:
        corpus: corpus whose items should have features.
        store: folder of the feature store.
        before: last snapshot of the store, or None.
        fingerprint: fingerprint of the features.
        shard_items: number of items per shard.
        limits: limits on the resources that decoding an item may use.
        retry_failed: whether quarantined items are tried again even if their files are unchanged.
        retry_unavailable: whether items that failed with one of RETRIED_ERRORS are tried again even
            if their files are unchanged.

    Raises:
        UserError: the files of most stored items are missing, which suggests that their folder was
            renamed or is not mounted.
    """
    items = corpus.item_table()
    valid_records, valid_rows = RECORD_SCHEMA.empty_table(), np.zeros(0, np.int64)
    if before:
        corpus_path = str(corpus.path)
        valid_records, valid_rows = _unchanged(
            items, corpus_path, store, before, limits, retry_failed, retry_unavailable
        )
    todo = np.ones(len(items), bool)
    todo[valid_rows] = False
    numbers = [int(name.split("-")[1]) for name in before.shards] if before else []
    return Plan(
        corpus=str(corpus.path),
        items=items,
        fingerprint=fingerprint,
        valid_records=valid_records,
        valid_rows=valid_rows,
        todo_rows=np.flatnonzero(todo),
        limits=limits,
        retry_failed=retry_failed,
        first_shard=max(numbers, default=-1) + 1,
        shard_items=shard_items,
    )


def _unchanged(
    items: pa.Table,
    corpus: str,
    store: UPath,
    before: Snapshot,
    limits: Limits,
    retry_failed: bool,
    retry_unavailable: bool,
) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return the records of the last snapshot that are still valid, and their items' rows."""
    present = present_shards(store)
    other_programs = before.versions[-1:] != (made_by(),)
    positions = pc.index_in(items["key"], value_set=before.table["key"])
    known = np.flatnonzero(np.asarray(pc.is_valid(positions)))
    parts = [RECORD_SCHEMA.empty_table()]
    valid_rows = [np.zeros(0, np.int64)]

    def check(source: ItemFile, record: ItemRecord) -> ItemRecord | None:
        """Return the up-to-date record of an item, or None if it has to be processed again."""
        if record.shard is None:
            retry = retry_failed or (retry_unavailable and record.error in RETRIED_ERRORS)
            # A defect of the program may be fixed in the current version.
            retry = retry or (record.error == INTERNAL and other_programs)
            if retry or (record.error == "degraded" and limits.keep_degraded):
                return None
        elif present.get(record.shard) != before.shards[record.shard].num_bytes:
            return None
        if record.degraded and not limits.keep_degraded:
            return None
        return _still_holds(source, record)

    with ThreadPoolExecutor(8) as threads:
        for at in range(0, len(known), _BATCH):
            rows = known[at : at + _BATCH]
            sources = [ItemFile(item, corpus) for item in items_of(items.take(pa.array(rows)))]
            records = records_of(before.table.take(positions.take(pa.array(rows))))
            checked = list(threads.map(check, sources, records))
            valid_rows.append(rows[[record is not None for record in checked]])
            parts.append(table_of(record for record in checked if record is not None))
    valid_records = pa.concat_tables(parts)
    num_stored = len(known) - before.table["shard"].take(positions.drop_null()).null_count
    _check_place(valid_records, corpus, num_stored)
    return valid_records, np.concatenate(valid_rows)


def _check_place(records: pa.Table, corpus: str, num_stored: int) -> None:
    """Raise `UserError` if the files of most stored items are missing.

    Files are usually deleted one by one; when most are missing at once, their folder was renamed or
    is not mounted.
    """
    missing = records.filter(records["file_missing"])
    if 2 * len(missing) > num_stored:
        raise UserError(
            f"{corpus}: the files of {len(missing)} of {num_stored} stored items can't be found, "
            f"the first is {missing['source'][0].as_py()}: was a folder renamed, or is a disk not "
            "mounted? Nothing is changed; import the corpus again where the files are, or without "
            "those items"
        )


def present_shards(store: UPath) -> dict[str, int]:
    """Return the sizes in bytes of the files in a store's folder of shards, by name."""
    folder = store / "shards"
    listed = folder.fs.ls(folder.path, detail=True) if folder.exists() else []
    return {Path(entry["name"]).name: entry["size"] for entry in listed}


def _still_holds(source: ItemFile, record: ItemRecord) -> ItemRecord | None:
    """Return the up-to-date record of an item, or None if the item has changed."""
    if record.selection != _selection(source.item):
        return None
    missing = replace(record, file_missing=record.is_stored)
    try:
        size_and_time = file_stat(source)
    except DecodeError:
        # The file cannot be checked now.
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
    except DecodeError:
        return missing if size_and_time[0] == record.size_bytes else None
    if state is None or state.sha256 != record.sha256:
        return None
    # The file was moved or touched, but its content is the same. The record is updated so that the
    # next call need not hash it again.
    return replace(present, source=source.item.uri, mtime_ns=state.mtime_ns)


def _selection(item: Item) -> str:
    """Describe the part of a file that an item is: its kind, and its segment if it has one."""
    if item.start_s is None and item.end_s is None:
        return item.kind
    return f"{item.kind} {item.start_s}..{item.end_s} s"


def has_pending(store: UPath) -> bool:
    """Return whether the store has accepted shards that no snapshot lists yet."""
    folder = store / "pending"
    return folder.exists() and bool(folder.fs.ls(folder.path, detail=False))


def _pending(store: UPath, address: str) -> UPath:
    return store / "pending" / f"{address}.parquet"


def accepted_before(
    plan: ShardPlan, store: UPath, present: Mapping[str, int], retry_failed: bool = False
) -> Snapshot | None:
    """Return a shard that an earlier, interrupted call accepted, or None.

    Args:
        plan: plan of the shard.
        store: folder of the feature store.
        present: sizes of the store's shard files, as `present_shards` returns them.
        retry_failed: whether a shard with failed items is computed again.
    """
    note = _pending(store, plan.address)
    if not note.exists():
        return None
    accepted = load_snapshot(note)
    if any(present.get(name) != shard.num_bytes for name, shard in accepted.shards.items()):
        return None
    if retry_failed and accepted.counts()["quarantined"]:
        return None
    records = [
        _still_holds(source, record)
        for source, record in zip(plan.sources, accepted.records(), strict=True)
    ]
    retried_errors = (
        RETRIED_ERRORS if accepted.versions == (made_by(),) else {*RETRIED_ERRORS, INTERNAL}
    )
    valid_records = [record for record in records if record and record.error not in retried_errors]
    return (
        replace(accepted, table=table_of(valid_records))
        if len(valid_records) == len(records)
        else None
    )


def accept(
    plan: ShardPlan,
    store: UPath,
    fingerprint: Fingerprint,
    decoded: Sequence[DecodedItem],
    attempt: ShardFile,
) -> Snapshot:
    """Give one attempt at a shard its final name, and write the records of its items.

    Returns:
        The shard as a snapshot of its own, to be merged with the others.
    """
    name = f"shard-{plan.number:05d}-{attempt.sha256[:12]}"
    name += SUFFIXES[cast(Format, fingerprint.format)]
    shards: dict[str, ShardFile] = {}
    failpoint("before-accept")
    if attempt.num_rows:
        rename(store / "shards" / attempt.name, store / "shards" / name)
        shards[name] = replace(attempt, name=name)
    else:
        (store / "shards" / attempt.name).unlink()
    failpoint("before-pending")
    records: list[ItemRecord] = []
    row = 0
    for item in decoded:
        records.append(record_of(item, name, row))
        row += item.rejection is None
    assert row == attempt.num_rows, f"{name}: {row} items stored, {attempt.num_rows} rows written"
    accepted = Snapshot(fingerprint, shards, table_of(records), (made_by(),))
    write_snapshot(_pending(store, plan.address), accepted)
    failpoint("after-pending")
    return accepted


def record_of(item: DecodedItem, shard: str | None = None, row: int | None = None) -> ItemRecord:
    """Return the record of an item; an item that is not rejected is in a shard."""
    state, rejection = item.state, item.rejection
    return ItemRecord(
        key=item.source.item.key,
        source=item.source.item.uri,
        selection=_selection(item.source.item),
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


def merge(
    plan: Plan, before: Snapshot | None, accepted: Sequence[tuple[NDArray[np.int64], Snapshot]]
) -> Snapshot:
    """Merge valid and new records into the snapshot of the whole corpus.

    Args:
        plan: plan of the call.
        before: last snapshot of the store, or None.
        accepted: accepted shards: row numbers of their items in the corpus, and their snapshots.
    """
    shards = dict(before.shards) if before else {}
    for _, snapshot in accepted:
        shards |= snapshot.shards
    rows = np.concatenate([plan.valid_rows, *(rows for rows, _ in accepted)])
    assert np.array_equal(np.sort(rows), np.arange(len(plan.items))), "every item ends once"
    tables = pa.concat_tables([plan.valid_records, *(snapshot.table for _, snapshot in accepted)])
    table = tables.take(pa.array(np.argsort(rows))).combine_chunks()
    used = set(pc.unique(table["shard"]).to_pylist())
    named = {name: shard for name, shard in shards.items() if name in used}
    made_with = [*(before.versions if before else ())]
    for versions in (versions for _, snapshot in accepted for versions in snapshot.versions):
        made_with = [*(earlier for earlier in made_with if earlier != versions), versions]
    return Snapshot(plan.fingerprint, named, table, tuple(made_with))


def forget_pending(store: UPath, addresses: Sequence[str]) -> None:
    """Delete the records of accepted shards that a snapshot lists now."""
    for address in addresses:
        _pending(store, address).unlink(missing_ok=True)
