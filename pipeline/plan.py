"""What a store lacks, cut into shards; and how a finished shard is taken in.

Both depend on the corpus and the store alone, never on who does the work or in which order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from pipeline.corpus import Corpus, Item
from pipeline.decode import DecodeError
from pipeline.fingerprint import Fingerprint
from pipeline.shards import SUFFIXES, Format, ShardFile
from pipeline.source import file_state
from pipeline.store import ItemRecord, Snapshot, read_records, sync_folder, write_records
from pipeline.work import DecodedItem, Source

# Classes of failure that say nothing of the item: another call tries it again.
NOT_ITS_FAULT = frozenset({"crashed"})


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A shard to be made: fixed items in a fixed order.

    Attributes:
        number: the shard's, in its store.
        sources: its items.
        pending: where its acceptance is noted until a snapshot names it. The name is an address of
            what the shard will be made of: a changed file makes another.
    """

    number: int
    sources: tuple[Source, ...]
    pending: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for a corpus.

    Attributes:
        sources: every item of the corpus, in order.
        kept: records of the last snapshot that still hold, by key.
        shards: to be made for the rest.
    """

    sources: tuple[Source, ...]
    kept: dict[str, ItemRecord]
    shards: tuple[ShardPlan, ...]


def make_plan(
    corpus: Corpus, store: Path, before: Snapshot | None, fingerprint: Fingerprint, shard_items: int
) -> Plan:
    """Compare a corpus with a store's last snapshot."""
    sources = tuple(Source(item, corpus.locate(item).absolute()) for item in corpus.items())
    kept = _unchanged(sources, before, store) if before else {}
    todo = [source for source in sources if source.item.key not in kept]
    numbers = [int(name.split("-")[1]) for name in before.shards] if before else []
    first = max(numbers, default=-1) + 1
    shards = []
    for n, at in enumerate(range(0, len(todo), shard_items)):
        mine = tuple(todo[at : at + shard_items])
        address = hashlib.sha256(f"{fingerprint.to_json()}|{first + n}".encode())
        for source in mine:
            try:
                info = source.path.stat()
                state = (info.st_size, info.st_mtime_ns)
            except OSError:
                state = None
            address.update(repr((source.item, state)).encode())
        pending = store / "pending" / f"{address.hexdigest()[:32]}.parquet"
        shards.append(ShardPlan(first + n, mine, pending))
    return Plan(sources, kept, tuple(shards))


def _unchanged(sources: Sequence[Source], before: Snapshot, store: Path) -> dict[str, ItemRecord]:
    """The records of the last snapshot that still hold, by key."""
    present = {
        shard.name
        for shard in before.shards.values()
        if (file := store / "shards" / shard.name).is_file()
        and file.stat().st_size == shard.num_bytes
    }
    old = {r.key: r for r in before.records if r.shard is None or r.shard in present}

    def check(source: Source) -> ItemRecord | None:
        record = old.get(source.item.key)
        if record is None or record.view != _view(source.item) or record.error in NOT_ITS_FAULT:
            return None
        try:
            info = source.path.stat()
            as_it_was = (record.source, record.size_bytes, record.mtime_ns)
            if (source.item.uri, info.st_size, info.st_mtime_ns) == as_it_was:
                return record
            state = file_state(source.path)
        except (OSError, DecodeError):
            # As unreadable as it was; a stored item whose file has gone is tried, and rejected.
            return record if record.sha256 is None else None
        if state.sha256 != record.sha256:
            return None
        # Moved or touched, but the same: the next call need not hash it again.
        return replace(record, source=source.item.uri, mtime_ns=state.mtime_ns)

    with ThreadPoolExecutor(8) as threads:
        checked = list(threads.map(check, sources))
    return {record.key: record for record in checked if record is not None}


def _view(item: Item) -> str:
    """What of a file an item is: its kind, and its segment if it has one."""
    if item.start_s is None and item.end_s is None:
        return item.kind
    return f"{item.kind} {item.start_s}..{item.end_s} s"


def accepted_before(plan: ShardPlan, store: Path) -> Snapshot | None:
    """A shard that an earlier call accepted and died before its snapshot, or None."""
    if not plan.pending.exists():
        return None
    accepted = read_records(plan.pending)
    whole = all((store / "shards" / name).exists() for name in accepted.shards)
    return accepted if whole else None


def accept(
    plan: ShardPlan,
    store: Path,
    fingerprint: Fingerprint,
    decoded: Sequence[DecodedItem],
    attempt: ShardFile,
) -> Snapshot:
    """Give one attempt at a shard its final name, and note how its items ended.

    Returns:
        The shard as a snapshot of its own, to be merged with the others.
    """
    folder = store / "shards"
    name = f"shard-{plan.number:05d}-{attempt.sha256[:12]}"
    name += SUFFIXES[cast(Format, fingerprint.format)]
    shards: dict[str, ShardFile] = {}
    if attempt.num_rows:
        (folder / attempt.name).replace(folder / name)
        sync_folder(folder)
        shards[name] = ShardFile(name, attempt.sha256, attempt.num_bytes, attempt.num_rows)
    else:
        (folder / attempt.name).unlink()
    records: list[ItemRecord] = []
    row = 0
    for item in decoded:
        state, rejection = item.state, item.rejection
        records.append(
            ItemRecord(
                key=item.source.item.key,
                source=item.source.item.uri,
                view=_view(item.source.item),
                sha256=state.sha256 if state else None,
                size_bytes=state.size_bytes if state else None,
                mtime_ns=state.mtime_ns if state else None,
                shard=None if rejection else name,
                row=None if rejection else row,
                num_frames=None if rejection else len(item.times_s),
                stage=rejection.stage if rejection else None,
                error=rejection.error if rejection else None,
                message=rejection.message if rejection else None,
            )
        )
        row += rejection is None
    assert row == attempt.num_rows, f"{name}: {row} items stored, {attempt.num_rows} rows written"
    accepted = Snapshot(fingerprint, shards, tuple(records))
    write_records(plan.pending, fingerprint, shards.values(), accepted.records)
    return accepted


def merge(
    plan: Plan, before: Snapshot | None, made: Sequence[Snapshot], fingerprint: Fingerprint
) -> Snapshot:
    """The snapshot of the whole corpus: what was kept and what was made."""
    shards = dict(before.shards) if before else {}
    records = dict(plan.kept)
    for snapshot in made:
        shards |= snapshot.shards
        records |= {record.key: record for record in snapshot.records}
    used = {record.shard for record in records.values()}
    return Snapshot(
        fingerprint,
        {name: shard for name, shard in shards.items() if name in used},
        tuple(records[source.item.key] for source in plan.sources),
    )
