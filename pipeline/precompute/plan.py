"""Plan of the shards that a store lacks.

It depends only on the corpus and the store, never on which worker does the work or in which order.
Items are kept in Arrow tables: a plan for a million items takes a few hundred megabytes.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from upath import UPath

from intertitle.pipeline.corpus import Corpus, items_of
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.feature_store.fingerprint import Fingerprint
from intertitle.pipeline.feature_store.snapshot import (
    RECORD_SCHEMA,
    ItemRecord,
    Snapshot,
    records_of,
    table_of,
)
from intertitle.pipeline.precompute.item_records import RETRIED_ERRORS, still_holds
from intertitle.pipeline.precompute.versions import made_by
from intertitle.pipeline.precompute.work import INTERNAL

_BATCH = 10_000
# A call ends without trying the other files if most could not be checked for so many seconds:
# behind a server that does not answer, each takes the time limit of a request.
_OUTAGE_S = 60.0


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
        num_items: number of items of the corpus.
        fingerprint: fingerprint of the features.
        valid_records: records of the last snapshot that are still valid.
        valid_rows: row numbers of the items of `valid_records` in the corpus.
        todo_items: table of the items to process, in order.
        todo_rows: row numbers of these items.
        limits: limits on the resources that decoding an item may use.
        first_shard: number of the first shard to compute.
        shard_items: number of items per shard.
    """

    corpus: str
    num_items: int
    fingerprint: Fingerprint
    valid_records: pa.Table
    valid_rows: NDArray[np.int64]
    todo_items: pa.Table
    todo_rows: NDArray[np.int64]
    limits: Limits
    first_shard: int
    shard_items: int

    def shards(self) -> Iterator[ShardPlan]:
        """Yield the shards to compute, in order."""
        for n, at in enumerate(range(0, len(self.todo_rows), self.shard_items)):
            rows = self.todo_rows[at : at + self.shard_items]
            items = items_of(self.todo_items.slice(at, self.shard_items))
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
        JobError: most files cannot be checked now, because the machine or the network fails.
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
        num_items=len(items),
        fingerprint=fingerprint,
        valid_records=valid_records,
        valid_rows=valid_rows,
        todo_items=items.filter(pa.array(todo)),
        todo_rows=np.flatnonzero(todo),
        limits=limits,
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
    # Taken once: `take` copies whole columns, however few rows it takes; a slice copies nothing.
    known_items = items.filter(positions.is_valid())
    known_records = before.table.take(positions.drop_null())
    known = np.flatnonzero(positions.is_valid())
    parts = [RECORD_SCHEMA.empty_table()]
    valid_rows = [np.zeros(0, np.int64)]
    unavailable: list[DecodeError] = []
    numbers, deadline = itertools.count(1), time.monotonic() + _OUTAGE_S

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
        if not record.is_stored:
            return still_holds(source, record)
        held = still_holds(source, record, unavailable.append)
        if 2 * len(unavailable) > next(numbers) and time.monotonic() > deadline:
            raise _outage(corpus, unavailable)
        return held

    with ThreadPoolExecutor(8) as threads:
        for at in range(0, len(known), _BATCH):
            rows = known[at : at + _BATCH]
            sources = [ItemFile(i, corpus) for i in items_of(known_items.slice(at, _BATCH))]
            records = records_of(known_records.slice(at, _BATCH))
            checked = list(threads.map(check, sources, records))
            valid_rows.append(rows[[record is not None for record in checked]])
            parts.append(table_of(record for record in checked if record is not None))
    valid_records = pa.concat_tables(parts)
    num_stored = len(known) - known_records["shard"].null_count
    if 2 * len(unavailable) > num_stored:
        raise _outage(corpus, unavailable)
    _check_place(valid_records, corpus, num_stored)
    return valid_records, np.concatenate(valid_rows)


def _outage(corpus: str, unavailable: Sequence[DecodeError]) -> JobError:
    return JobError(
        f"{corpus}: the files of most stored items can't be checked now, as "
        f"{unavailable[0].message}; nothing is changed"
    )


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
