"""`intertitle precompute`: every item of a corpus becomes features, or ends in quarantine."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, cast

import typer
from upath import UPath

from jobs import console
from jobs.cluster import cluster
from jobs.options import Address, Json
from pipeline import hosts
from pipeline.corpus import Corpus
from pipeline.errors import UserError, one_line
from pipeline.limits import Limits
from pipeline.location import location
from pipeline.sampling import Every, Rate, Sampling, Uniform
from pipeline.shards import Format

if TYPE_CHECKING:
    from pipeline.precompute import PrecomputeOptions, PrecomputeReport

# More items in quarantine than were allowed.
EXIT_TOO_MANY_FAILED = 3
SHOWN = 20
# The rate that is shown is of so much of the past.
RATE_OVER_S = 20.0

LIMITS = Limits()


def precompute_features(
    corpus: Annotated[
        UPath,
        typer.Argument(parser=location, metavar="CORPUS", help="Made by `intertitle import`."),
    ],
    out: Annotated[
        UPath,
        typer.Option(
            parser=location, metavar="STORE", help="To write or to add to: folder or URL."
        ),
    ],
    backbone: Annotated[
        str,
        # Brackets would be rich's markup.
        typer.Option(help="efficientnet_lite0, 1, 2; onnx:FILE; timm:NAME or timm:NAME@LAYER."),
    ] = "efficientnet_lite0",
    features: Annotated[
        str, typer.Option(help="pooled: a vector a frame; grid: one for each cell of a grid.")
    ] = "pooled",
    frames: Annotated[
        int | None, typer.Option(help="Frames of a video, spread over its time; default: 8.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second, instead of --frames.")] = None,
    every: Annotated[
        int | None, typer.Option(help="Every so many frames, instead of both.")
    ] = None,
    format: Annotated[str, typer.Option(help="Of the shards: arrow or webdataset.")] = "arrow",
    shard_items: Annotated[int, typer.Option(help="Items a shard.")] = 256,
    workers: Annotated[
        int | None, typer.Option(help="Networks at work; default: one a GPU, or one a core.")
    ] = None,
    item_seconds: Annotated[float, typer.Option(help="That one item may take.")] = LIMITS.seconds,
    item_memory_mb: Annotated[
        int, typer.Option(help="MiB that decoding one item may take.")
    ] = LIMITS.memory_mb,
    max_pixels: Annotated[int, typer.Option(help="Of a picture or frame.")] = LIMITS.max_pixels,
    keep_degraded: Annotated[
        bool, typer.Option(help="Of a damaged file, keep what can be read, and mark it.")
    ] = LIMITS.keep_degraded,
    allow_failed: Annotated[
        float, typer.Option(min=0, max=1, help="Share of items that may fail before exit code 3.")
    ] = 0.05,
    stop_failed: Annotated[
        float, typer.Option(min=0, max=1, help="Share of failures that ends a job on its way.")
    ] = 0.5,
    stop_internal: Annotated[
        int,
        typer.Option(min=0, help="Items that may meet a defect of the program before a job ends."),
    ] = 20,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what is in quarantine.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEME://HOST",
            help="To which URLs of items may lead beside the corpus' own; may be repeated. More in "
            f"{hosts.VARIABLE}.",
        ),
    ] = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Extract frames and compute their features; a rerun does only what is new or changed."""
    from pipeline.precompute import PrecomputeOptions

    if allow_host:
        os.environ[hosts.VARIABLE] = ",".join(
            (*hosts.parse_hosts(allow_host), *hosts.allowed_hosts())
        )
    options = PrecomputeOptions(
        backbone=backbone,
        sampling=_sampling(frames, fps, every),
        features=features,
        format=cast(Format, format),
        shard_items=shard_items,
        workers=workers,
        limits=Limits(item_seconds, item_memory_mb, max_pixels, keep_degraded),
        stop_failed=stop_failed,
        stop_internal=stop_internal,
        retry_failed=retry_failed,
    )
    # Workers have folders of their own.
    source, store = Corpus(corpus.absolute()), out.absolute()
    began = time.perf_counter()
    with cluster(address):
        report = run_precompute(source, store, options)
    seconds = time.perf_counter() - began
    for record in report.quarantined[:SHOWN]:
        key = one_line(record.key)
        console.say(f"quarantined {key}: {record.error}: {record.message}")
    if len(report.quarantined) > SHOWN:
        more = len(report.quarantined) - SHOWN
        console.say(f"quarantined: {more} more; `intertitle inspect {out} --quarantine` shows all")
    failed = len(report.quarantined)
    degraded = f" ({report.degraded} of damaged files)" if report.degraded else ""
    if report.missing_files:
        console.say(
            f"{report.missing_files} stored items have no file any more: their features are kept "
            "until the corpus names them no more"
        )
    console.say(
        f"{out}: {report.stored} stored{degraded}, {failed} quarantined, {report.skipped} of them "
        f"skipped as unchanged, {seconds:.1f} s"
    )
    if json:
        console.result(
            {
                "store": str(out),
                "snapshot": report.snapshot,
                "stored": report.stored,
                "degraded": report.degraded,
                "missing_files": report.missing_files,
                "quarantined": failed,
                "skipped": report.skipped,
                "seconds": round(seconds, 3),
            }
        )
    if failed > allow_failed * (report.stored + failed):
        raise typer.Exit(EXIT_TOO_MANY_FAILED)


def _sampling(frames: int | None, fps: float | None, every: int | None) -> Sampling:
    given = {"--frames": frames, "--fps": fps, "--every": every}
    named = [f"{name} {value:g}" for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)}: only one of them")
    if fps is not None:
        return Rate(fps)
    return Every(every) if every is not None else Uniform(8 if frames is None else frames)


def run_precompute(corpus: Corpus, store: UPath, options: PrecomputeOptions) -> PrecomputeReport:
    """Precompute, with a progress bar; needs a running Ray."""
    from pipeline.precompute import Progress, precompute

    past: deque[tuple[float, int]] = deque()
    with console.bar("features") as bar:

        def show(progress: Progress) -> None:
            now = time.perf_counter()
            past.append((now, progress.done))
            while past[0][0] < now - RATE_OVER_S:
                past.popleft()
            began, before = past[0]
            rate = (progress.done - before) / (now - began) if now > began else 0.0
            failed = f", {progress.failed} failed" if progress.failed else ""
            bar.update(progress.done, progress.total, f"{rate:.0f} items/s{failed}")

        return precompute(corpus, store, options, show)
