"""`intertitle gc`: remove the files of a feature store that no snapshot references."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.filesize import decimal

from intertitle.jobs import console
from intertitle.jobs.options import Json, Store

# Descriptions of the kinds of files in the printed table.
NAMES = {
    "snapshots": "old snapshots",
    "notes": "notes of shards that were never needed",
    "shards": "shards of no snapshot",
    "attempts": "attempts whose worker died",
    "unfinished": "files that were never finished",
}


def collect_garbage(
    store: Store,
    retained: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", metavar="SNAPSHOT", help="Id of a further snapshot to keep; may be repeated."
        ),
    ] = None,
    release: Annotated[
        list[str] | None,
        typer.Option(metavar="PIN", help="Pin of a run that will not be resumed; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only report what would be removed.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove the files of a store that neither its current snapshot nor a kept one references.

    A training or retraining that has not finished pins its snapshot, so it is kept.
    """
    from intertitle.pipeline.feature_store.gc import collect

    with console.bar("removing") as bar:
        collected = collect(store, retained or (), dry_run, release or (), bar.update)
    piles = {kind: pile for kind, pile in collected.removed.items() if pile.num_files}
    num_files = sum(pile.num_files for pile in piles.values())
    num_bytes = sum(pile.num_bytes for pile in piles.values())
    if piles:
        console.table(
            "would be removed" if dry_run else "removed",
            ["what", "files", "size"],
            [[NAMES[kind], p.num_files, decimal(p.num_bytes)] for kind, p in piles.items()],
        )
        console.echo("")
    num_kept = len(collected.retained_ids) - 1
    console.echo(
        f"{store}: {num_files} file{'s' * (num_files != 1)}, {decimal(num_bytes)} "
        f"{'would be ' if dry_run else ''}removed; snapshot {collected.current} stays"
        + (f" with {num_kept} other{'s' * (num_kept > 1)}" if num_kept else "")
    )
    for pin, snapshot in collected.pinned.items():
        console.echo(f"{snapshot} is pinned by {pin}, which is not finished (--release {pin})")
    if json:
        console.result(
            {
                "store": str(store),
                "snapshot": collected.current,
                "kept": list(collected.retained_ids),
                "pinned": collected.pinned,
                "dry_run": dry_run,
                "files": num_files,
                "bytes": num_bytes,
                "removed": {
                    kind: {"files": pile.num_files, "bytes": pile.num_bytes}
                    for kind, pile in collected.removed.items()
                },
            }
        )
