"""Summarise a store: counts, sizes, and why items are quarantined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow.compute as pc

from intertitle.pipeline.feature_store.gc import StoredSnapshot
from intertitle.pipeline.feature_store.snapshot import Snapshot
from intertitle.pipeline.feature_store.store import FeatureStore


def summarize(store: FeatureStore, snapshots: Sequence[StoredSnapshot]) -> dict[str, Any]:
    """Summarise a snapshot of a store.

    Args:
        store: feature store that is opened at the snapshot.
        snapshots: all snapshots of the store, from `list_snapshots`.

    Returns:
        A dictionary that can be serialised as JSON. Times are in ISO 8601, sizes in bytes.
    """
    snapshot = store.snapshot
    counts = snapshot.counts()
    frames = pc.min_max(snapshot.table["num_frames"]).as_py()
    num_bytes = sum(shard.num_bytes for shard in snapshot.shards.values())
    written = {entry.id: entry.written.isoformat() for entry in snapshots}
    return {
        "store": str(store.path),
        "snapshot": store.snapshot_id,
        "published": written.get(store.snapshot_id),
        "items": len(snapshot),
        "stored": counts["stored"],
        "degraded": counts["degraded"],
        "missing_files": counts["file_missing"],
        "quarantined": counts["quarantined"],
        "frames": {"total": pc.sum(snapshot.table["num_frames"]).as_py() or 0, **frames},
        "shards": {
            "number": len(snapshot.shards),
            "bytes": num_bytes,
            "bytes_per_item": round(num_bytes / counts["stored"]) if counts["stored"] else None,
        },
        "fingerprint": asdict(snapshot.fingerprint),
        "versions": list(snapshot.versions),
        "quarantine": quarantine_of(snapshot),
        "degraded_reasons": [
            {"reason": reason["values"], "items": reason["counts"]}
            for reason in sorted(
                pc.value_counts(snapshot.table["degraded"].drop_null()).to_pylist(),
                key=lambda reason: -reason["counts"],
            )
        ],
        "other_snapshots": [
            {"snapshot": entry.id, "published": entry.written.isoformat(), "items": entry.num_items}
            for entry in snapshots
            if entry.is_readable and entry.id != store.snapshot_id
        ],
    }


def quarantine_of(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Count the quarantined items by stage and error class.

    Returns:
        One dictionary per stage and class, with the first message, the most frequent ones first.
    """
    table = snapshot.table.filter(pc.is_null(snapshot.table["shard"]))
    groups = table.group_by(["stage", "error"], use_threads=False).aggregate(
        [("key", "count"), ("message", "first")]
    )
    causes = [
        {
            "stage": group["stage"],
            "error": group["error"],
            "items": group["key_count"],
            "message": group["message_first"],
        }
        for group in groups.to_pylist()
    ]
    return sorted(causes, key=lambda group: -group["items"])
