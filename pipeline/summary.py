"""A store in figures: counts, sizes, and why items are in quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow.compute as pc

from pipeline.collect import StoredSnapshot
from pipeline.snapshot import Snapshot
from pipeline.store import FeatureStore


def summarize(store: FeatureStore, snapshots: Sequence[StoredSnapshot]) -> dict[str, Any]:
    """Count what a snapshot says.

    Args:
        store: opened at that snapshot.
        snapshots: that there are, from `list_snapshots`.

    Returns:
        What can be printed as one JSON object. Times are ISO 8601, sizes in bytes.
    """
    snapshot = store.snapshot
    counts = snapshot.counts()
    frames = pc.min_max(snapshot.table["num_frames"]).as_py()
    num_bytes = sum(shard.num_bytes for shard in snapshot.shards.values())
    written = {other.id: other.written.isoformat() for other in snapshots}
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
            {"reason": found["values"], "items": found["counts"]}
            for found in sorted(
                pc.value_counts(snapshot.table["degraded"].drop_null()).to_pylist(),
                key=lambda found: -found["counts"],
            )
        ],
        "other_snapshots": [
            {"snapshot": other.id, "published": other.written.isoformat(), "items": other.num_items}
            for other in snapshots
            if other.is_readable and other.id != store.snapshot_id
        ],
    }


def quarantine_of(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Items in quarantine by stage and class, the most first, with the first message of each."""
    table = snapshot.table.filter(pc.is_null(snapshot.table["shard"]))
    groups = table.group_by(["stage", "error"], use_threads=False).aggregate(
        [("key", "count"), ("message", "first")]
    )
    found = [
        {
            "stage": group["stage"],
            "error": group["error"],
            "items": group["key_count"],
            "message": group["message_first"],
        }
        for group in groups.to_pylist()
    ]
    return sorted(found, key=lambda group: -group["items"])
