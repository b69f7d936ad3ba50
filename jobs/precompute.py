"""`intertitle precompute`: every item of a corpus becomes features, or ends in quarantine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from jobs import console
from jobs.cluster import cluster
from jobs.options import Address, Json, local_path
from pipeline.corpus import Corpus
from pipeline.errors import UserError
from pipeline.sampling import Rate, Uniform
from pipeline.shards import Format

if TYPE_CHECKING:
    from pipeline.precompute import PrecomputeOptions, PrecomputeReport

# More items in quarantine than were allowed.
EXIT_TOO_MANY_FAILED = 3
SHOWN = 20


def precompute_features(
    corpus: Annotated[
        Path,
        typer.Argument(
            parser=local_path, metavar="PATH", help="A folder made by `intertitle import`."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            parser=local_path, metavar="PATH", help="The store to write or to add to, a folder."
        ),
    ],
    backbone: Annotated[str, typer.Option(help="The network.")] = "efficientnet_lite0",
    frames: Annotated[
        int | None, typer.Option(help="Frames of a video, spread over its time; default: 8.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second, instead of --frames.")] = None,
    format: Annotated[str, typer.Option(help="Of the shards: arrow or webdataset.")] = "arrow",
    shard_items: Annotated[int, typer.Option(help="Items a shard.")] = 256,
    workers: Annotated[
        int | None, typer.Option(help="Networks at work; default: one a GPU, or one a node.")
    ] = None,
    allow_failed: Annotated[
        float, typer.Option(min=0, max=1, help="Share of items that may fail before exit code 3.")
    ] = 0.05,
    address: Address = None,
    json: Json = False,
) -> None:
    """Extract frames and compute their features; a rerun does only what is new or changed."""
    from pipeline.precompute import PrecomputeOptions

    if frames is not None and fps is not None:
        raise UserError(f"--frames {frames} and --fps {fps:g}: only one of the two")
    options = PrecomputeOptions(
        backbone=backbone,
        sampling=Rate(fps) if fps is not None else Uniform(8 if frames is None else frames),
        format=cast(Format, format),
        shard_items=shard_items,
        workers=workers,
    )
    source = Corpus(corpus)
    began = time.perf_counter()
    with cluster(address):
        report = run_precompute(source, out, options)
    seconds = time.perf_counter() - began
    for record in report.quarantined[:SHOWN]:
        console.say(f"quarantined {record.key}: {record.error}: {record.message}")
    if len(report.quarantined) > SHOWN:
        console.say(f"quarantined: {len(report.quarantined) - SHOWN} more, see the snapshot")
    failed = len(report.quarantined)
    console.say(
        f"{out}: {report.stored} stored, {failed} quarantined, {report.skipped} of them skipped "
        f"as unchanged, {seconds:.1f} s"
    )
    if json:
        console.result(
            {
                "store": str(out),
                "snapshot": report.snapshot,
                "stored": report.stored,
                "quarantined": failed,
                "skipped": report.skipped,
                "seconds": round(seconds, 3),
            }
        )
    if failed > allow_failed * (report.stored + failed):
        raise typer.Exit(EXIT_TOO_MANY_FAILED)


def run_precompute(corpus: Corpus, store: Path, options: PrecomputeOptions) -> PrecomputeReport:
    """Precompute, with a progress bar; needs a running Ray."""
    from pipeline.precompute import Progress, precompute

    last = (time.perf_counter(), 0)
    with console.bar("features") as bar:

        def show(progress: Progress) -> None:
            nonlocal last
            now, before = (time.perf_counter(), progress.done), last
            last = now
            rate = (now[1] - before[1]) / (now[0] - before[0])
            failed = f", {progress.failed} failed" if progress.failed else ""
            bar.update(progress.done, progress.total, f"{rate:.0f} items/s{failed}")

        return precompute(corpus, store, options, show)
