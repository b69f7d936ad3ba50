"""Acceptance of finished shards, one attempt each, and their merge into a snapshot.

The accepted shard of an interrupted call is found again by the hash of its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from upath import UPath

from intertitle.pipeline.feature_store.fingerprint import Fingerprint
from intertitle.pipeline.feature_store.shards import SUFFIXES, Format, ShardFile
from intertitle.pipeline.feature_store.snapshot import (
    ItemRecord,
    Snapshot,
    load_snapshot,
    table_of,
    write_snapshot,
)
from intertitle.pipeline.precompute.item_records import RETRIED_ERRORS, record_of, still_holds
from intertitle.pipeline.precompute.plan import Plan, ShardPlan
from intertitle.pipeline.precompute.versions import made_by
from intertitle.pipeline.precompute.work import INTERNAL, DecodedItem
from intertitle.pipeline.storage.failpoints import failpoint
from intertitle.pipeline.storage.paths import rename


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
        still_holds(source, record)
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
    assert np.array_equal(np.sort(rows), np.arange(plan.num_items)), "every item ends once"
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
