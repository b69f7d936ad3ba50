"""`intertitle gc`: what no snapshot of a store names any more is removed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.filesize import decimal
from upath import UPath

from jobs import console
from jobs.options import Json
from pipeline.location import location

# How a person calls the kinds of files.
NAMES = {
    "snapshots": "old snapshots",
    "notes": "notes of shards that were never needed",
    "shards": "shards of no snapshot",
    "attempts": "attempts whose worker died",
    "unfinished": "files that were never finished",
}


def collect_garbage(
    store: Annotated[
        UPath,
        typer.Argument(parser=location, metavar="STORE", help="Made by `intertitle precompute`."),
    ],
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="SNAPSHOT", help="Another snapshot that stays; may be repeated."),
    ] = None,
    release: Annotated[
        list[str] | None,
        typer.Option(metavar="PIN", help="Of a run that will never go on; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove what the current snapshot of a store, and those kept, do not name.

    A training or a retraining that is not finished pins its snapshot, which stays.
    """
    from pipeline.collect import collect

    with console.bar("removing") as bar:
        collected = collect(store, keep or (), dry_run, release or (), bar.update)
    found = {kind: pile for kind, pile in collected.removed.items() if pile.num_files}
    num_files = sum(pile.num_files for pile in found.values())
    num_bytes = sum(pile.num_bytes for pile in found.values())
    if found:
        console.table(
            "would be removed" if dry_run else "removed",
            ["what", "files", "size"],
            [[NAMES[kind], p.num_files, decimal(p.num_bytes)] for kind, p in found.items()],
        )
        console.say("")
    others = len(collected.kept) - 1
    console.say(
        f"{store}: {num_files} file{'s' * (num_files != 1)}, {decimal(num_bytes)} "
        f"{'would be ' if dry_run else ''}removed; snapshot {collected.current} stays"
        + (f" with {others} other{'s' * (others > 1)}" if others else "")
    )
    for pin, snapshot in collected.pinned.items():
        console.say(f"{snapshot} is pinned by {pin}, which is not finished (--release {pin})")
    if json:
        console.result(
            {
                "store": str(store),
                "snapshot": collected.current,
                "kept": list(collected.kept),
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
