"""What a store lacks, cut into shards; and how a finished shard is taken in.

Both depend on the corpus and the store alone, never on who does the work or in which order. Tables
stay tables: a plan for a million items takes a few hundred megabytes.
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

from pipeline.corpus import Corpus, Item, items_of
from pipeline.decode import DecodeError
from pipeline.errors import UserError
from pipeline.failpoints import failpoint
from pipeline.fingerprint import Fingerprint
from pipeline.limits import Limits
from pipeline.location import rename
from pipeline.shards import SUFFIXES, Format, ShardFile
from pipeline.snapshot import (
    RECORD_SCHEMA,
    ItemRecord,
    Snapshot,
    load_snapshot,
    records_of,
    table_of,
    write_snapshot,
)
from pipeline.source import Source, stamp, state_of
from pipeline.versions import made_by
from pipeline.work import INTERNAL, DecodedItem

# Classes of failure that say nothing of the item: another call tries it again.
NOT_ITS_FAULT = frozenset({"unavailable", "killed"})

_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A shard to be made: fixed items in a fixed order.

    Attributes:
        number: the shard's, in its store.
        rows: its items' rows in the corpus.
        sources: its items.
        address: a hash of what the shard will be made of. Its acceptance is noted under this name
            until a snapshot names it.
    """

    number: int
    rows: NDArray[np.int64]
    sources: tuple[Source, ...]
    address: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for a corpus.

    Attributes:
        corpus: its path or URL.
        items: every item of it, in order.
        fingerprint: of the features.
        kept: records of the last snapshot that still hold.
        kept_rows: their items' rows in the corpus.
        todo_rows: the rows of the others.
        limits: what an item may cost.
        retry_failed: whether what failed is tried again.
        first_shard: the number of the first shard to be made.
        shard_items: how many items a shard holds.
    """

    corpus: str
    items: pa.Table
    fingerprint: Fingerprint
    kept: pa.Table
    kept_rows: NDArray[np.int64]
    todo_rows: NDArray[np.int64]
    limits: Limits
    retry_failed: bool
    first_shard: int
    shard_items: int

    def shards(self) -> Iterator[ShardPlan]:
        """The shards to be made, one after the other."""
        for n, at in enumerate(range(0, len(self.todo_rows), self.shard_items)):
            rows = self.todo_rows[at : at + self.shard_items]
            items = items_of(self.items.take(pa.array(rows)))
            number = self.first_shard + n
            content = f"{self.fingerprint.to_json()}|{self.limits}|{number}|{items}"
            address = hashlib.sha256(content.encode())
            sources = tuple(Source(item, self.corpus) for item in items)
            yield ShardPlan(number, rows, sources, address.hexdigest()[:32])


def make_plan(
    corpus: Corpus,
    store: UPath,
    before: Snapshot | None,
    fingerprint: Fingerprint,
    shard_items: int,
    limits: Limits,
    retry_failed: bool = False,
) -> Plan:
    """Compare a corpus with a store's last snapshot.

    Args:
        corpus: what there should be features of.
        store: where they are.
        before: its last snapshot.
        fingerprint: of the features.
        shard_items: how many items a shard holds.
        limits: what an item may cost.
        retry_failed: whether items in quarantine are tried again, changed or not.

    Raises:
        UserError: the files of most stored items are missing: their place is, not they.
    """
    items = corpus.item_table()
    kept, kept_rows = RECORD_SCHEMA.empty_table(), np.zeros(0, np.int64)
    if before:
        corpus_path = str(corpus.path)
        kept, kept_rows = _unchanged(items, corpus_path, store, before, limits, retry_failed)
    todo = np.ones(len(items), bool)
    todo[kept_rows] = False
    numbers = [int(name.split("-")[1]) for name in before.shards] if before else []
    return Plan(
        corpus=str(corpus.path),
        items=items,
        fingerprint=fingerprint,
        kept=kept,
        kept_rows=kept_rows,
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
) -> tuple[pa.Table, NDArray[np.int64]]:
    """The records of the last snapshot that still hold, and their items' rows."""
    present = present_shards(store)
    other_programs = before.versions[-1:] != (made_by(),)
    found = pc.index_in(items["key"], value_set=before.table["key"])
    known = np.flatnonzero(np.asarray(pc.is_valid(found)))
    parts = [RECORD_SCHEMA.empty_table()]
    kept_rows = [np.zeros(0, np.int64)]

    def check(source: Source, record: ItemRecord) -> ItemRecord | None:
        if record.shard is None:
            again = retry_failed or record.error in NOT_ITS_FAULT
            # A defect that nobody foresaw may be mended since.
            again = again or (record.error == INTERNAL and other_programs)
            if again or (record.error == "degraded" and limits.keep_degraded):
                return None
        elif present.get(record.shard) != before.shards[record.shard].num_bytes:
            return None
        if record.degraded and not limits.keep_degraded:
            return None
        return _still_holds(source, record)

    with ThreadPoolExecutor(8) as threads:
        for at in range(0, len(known), _BATCH):
            rows = known[at : at + _BATCH]
            sources = [Source(item, corpus) for item in items_of(items.take(pa.array(rows)))]
            records = records_of(before.table.take(found.take(pa.array(rows))))
            checked = list(threads.map(check, sources, records))
            kept_rows.append(rows[[record is not None for record in checked]])
            parts.append(table_of(record for record in checked if record is not None))
    kept = pa.concat_tables(parts)
    num_stored = len(known) - before.table["shard"].take(found.drop_null()).null_count
    _check_place(kept, corpus, num_stored)
    return kept, np.concatenate(kept_rows)


def _check_place(kept: pa.Table, corpus: str, num_stored: int) -> None:
    """Files go one by one; where most are gone at once, their folder was renamed or not mounted."""
    missing = kept.filter(kept["file_missing"])
    if 2 * len(missing) > num_stored:
        raise UserError(
            f"{corpus}: the files of {len(missing)} of {num_stored} stored items can't be found, "
            f"the first is {missing['source'][0].as_py()}: was a folder renamed, or is a disk not "
            "mounted? Nothing is changed; import the corpus again where the files are, or without "
            "those items"
        )


def present_shards(store: UPath) -> dict[str, int]:
    """The files among a store's shards, and their lengths in bytes."""
    folder = store / "shards"
    listed = folder.fs.ls(folder.path, detail=True) if folder.exists() else []
    return {Path(entry["name"]).name: entry["size"] for entry in listed}


def _still_holds(source: Source, record: ItemRecord) -> ItemRecord | None:
    """A record as it is now, or None where the item is not what it was."""
    if record.view != _view(source.item):
        return None
    away = replace(record, file_missing=record.is_stored)
    try:
        size_and_time = stamp(source)
    except DecodeError:
        # Nothing can be said of it now.
        return away
    if size_and_time is None:
        if record.is_stored:
            # Features stay while their file is away; under another name it is another file.
            return away if record.source == source.item.uri else None
        return record if record.size_bytes is None else None
    here = replace(record, file_missing=False) if record.file_missing else record
    as_it_was = (record.source, record.size_bytes, record.mtime_ns)
    if (source.item.uri, *size_and_time) == as_it_was:
        return here
    try:
        state = state_of(source) if record.sha256 else None
    except DecodeError:
        return away if size_and_time[0] == record.size_bytes else None
    if state is None or state.sha256 != record.sha256:
        return None
    # Moved or touched, but the same: the next call need not hash it again.
    return replace(here, source=source.item.uri, mtime_ns=state.mtime_ns)


def _view(item: Item) -> str:
    """What of a file an item is: its kind, and its segment if it has one."""
    if item.start_s is None and item.end_s is None:
        return item.kind
    return f"{item.kind} {item.start_s}..{item.end_s} s"


def has_pending(store: UPath) -> bool:
    """Whether there are shards that were accepted and that no snapshot names yet."""
    folder = store / "pending"
    return folder.exists() and bool(folder.fs.ls(folder.path, detail=False))


def _pending(store: UPath, address: str) -> UPath:
    return store / "pending" / f"{address}.parquet"


def accepted_before(
    plan: ShardPlan, store: UPath, present: Mapping[str, int], retry_failed: bool = False
) -> Snapshot | None:
    """A shard that an earlier call accepted and died before its snapshot, or None.

    Args:
        plan: of the shard.
        store: where it would be.
        present: from `present_shards`.
        retry_failed: whether a shard some of whose items failed is made again.
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
    passed = NOT_ITS_FAULT if accepted.versions == (made_by(),) else {*NOT_ITS_FAULT, INTERNAL}
    held = [record for record in records if record and record.error not in passed]
    return replace(accepted, table=table_of(held)) if len(held) == len(records) else None


def accept(
    plan: ShardPlan,
    store: UPath,
    fingerprint: Fingerprint,
    decoded: Sequence[DecodedItem],
    attempt: ShardFile,
) -> Snapshot:
    """Give one attempt at a shard its final name, and note how its items ended.

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
    """How an item ended; one that is not rejected is in a shard."""
    state, rejection = item.state, item.rejection
    return ItemRecord(
        key=item.source.item.key,
        source=item.source.item.uri,
        view=_view(item.source.item),
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
    plan: Plan, before: Snapshot | None, made: Sequence[tuple[NDArray[np.int64], Snapshot]]
) -> Snapshot:
    """The snapshot of the whole corpus: what was kept and what was made.

    Args:
        plan: of the call.
        before: the last snapshot.
        made: rows of the corpus, and how their items ended.
    """
    shards = dict(before.shards) if before else {}
    for _, snapshot in made:
        shards |= snapshot.shards
    rows = np.concatenate([plan.kept_rows, *(rows for rows, _ in made)])
    assert np.array_equal(np.sort(rows), np.arange(len(plan.items))), "every item ends once"
    tables = pa.concat_tables([plan.kept, *(snapshot.table for _, snapshot in made)])
    table = tables.take(pa.array(np.argsort(rows))).combine_chunks()
    used = set(pc.unique(table["shard"]).to_pylist())
    named = {name: shard for name, shard in shards.items() if name in used}
    made_with = [*(before.versions if before else ())]
    for found in (found for _, snapshot in made for found in snapshot.versions):
        made_with = [*(other for other in made_with if other != found), found]
    return Snapshot(plan.fingerprint, named, table, tuple(made_with))


def forget_pending(store: UPath, addresses: Sequence[str]) -> None:
    """Drop the notes of shards that a snapshot names now."""
    for address in addresses:
        _pending(store, address).unlink(missing_ok=True)
