"""`intertitle precompute`: compute features of every item of a corpus, or quarantine it."""

from __future__ import annotations

import os
import time
from typing import Annotated, cast

import typer
from upath import UPath

from intertitle.jobs import console
from intertitle.jobs.cluster.session import cluster
from intertitle.jobs.options import Address, AllowHost, Json, allow_hosts
from intertitle.jobs.progress import EXIT_TOO_MANY_FAILED, run_precompute, show_quarantined
from intertitle.pipeline.backbones.families import FAMILIES
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Every, Rate, Sampling, Uniform
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.shards import Format
from intertitle.pipeline.storage import web
from intertitle.pipeline.storage.paths import as_path

LIMITS = Limits()


def precompute_features(
    corpus: Annotated[
        UPath,
        typer.Argument(
            parser=as_path, metavar="CORPUS", help="Corpus, as written by `intertitle import`."
        ),
    ],
    out: Annotated[
        UPath,
        typer.Option(
            parser=as_path, metavar="STORE", help="Folder or URL of the store to create or extend."
        ),
    ],
    backbone: Annotated[
        str,
        # No square brackets in the text: they are rich's markup.
        typer.Option(
            help="Network: efficientnet_lite0, 1 or 2; onnx:FILE; timm:NAME or timm:NAME@LAYER; "
            "open_clip:NAME/TAG; torchvision:r2plus1d_18 or s3d, of clips of 16 frames"
            f"{''.join(f'; {name}' for name in FAMILIES.added())}."
        ),
    ] = "efficientnet_lite0",
    features: Annotated[
        str,
        typer.Option(help="pooled: one vector per frame; grid: one vector per cell of a grid."),
    ] = "pooled",
    frames: Annotated[
        int | None,
        typer.Option(help="Number of frames per video, evenly spaced in time; default: 8."),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second of video, instead of --frames.")
    ] = None,
    every: Annotated[
        int | None, typer.Option(help="Take every N-th frame, instead of --frames or --fps.")
    ] = None,
    format: Annotated[str, typer.Option(help="Shard format: arrow or webdataset.")] = "arrow",
    shard_items: Annotated[int, typer.Option(help="Number of items per shard.")] = 256,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of copies of the network; default: one per GPU, or per core without GPUs."
        ),
    ] = None,
    item_seconds: Annotated[
        float, typer.Option(help="Time limit for reading and decoding one item, in seconds.")
    ] = LIMITS.seconds,
    item_memory_mb: Annotated[
        int, typer.Option(help="Memory limit for decoding one item, in MiB.")
    ] = LIMITS.memory_mb,
    download_mb: Annotated[
        int, typer.Option(help="Maximum size of a file that is fetched from a server, in MiB.")
    ] = LIMITS.download_mb,
    max_pixels: Annotated[
        int, typer.Option(help="Maximum number of pixels of an image or frame.")
    ] = LIMITS.max_pixels,
    keep_degraded: Annotated[
        bool, typer.Option(help="Keep what can be read of a damaged file, and mark its item.")
    ] = LIMITS.keep_degraded,
    allow_failed: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of items allowed to fail; above it, the exit code is 3."
        ),
    ] = 0.05,
    stop_failed: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of failed items above which the job stops early."),
    ] = 0.5,
    stop_internal: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of items allowed to fail with an internal error before the job stops.",
        ),
    ] = 20,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Process the quarantined items again.")
    ] = False,
    allow_host: AllowHost = None,
    user_agent: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="User-Agent with which items are fetched by http and https; default: the variable "
            f"{web.USER_AGENT_VARIABLE}, or the name and version of this program.",
        ),
    ] = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Extract frames and compute their features; a rerun processes only new or changed items."""
    from intertitle.pipeline.precompute.options import PrecomputeOptions

    allow_hosts(allow_host)
    if user_agent is not None:
        os.environ[web.USER_AGENT_VARIABLE] = user_agent
    web.user_agent()
    options = PrecomputeOptions(
        backbone=backbone,
        sampling=_sampling(frames, fps, every),
        features=features,
        format=cast(Format, format),
        shard_items=shard_items,
        workers=workers,
        limits=Limits(item_seconds, item_memory_mb, max_pixels, keep_degraded, download_mb),
        stop_failed=stop_failed,
        stop_internal=stop_internal,
        retry_failed=retry_failed,
    )
    # Absolute paths, because Ray workers have other working directories.
    source, store = Corpus(corpus.absolute()), out.absolute()
    start = time.perf_counter()
    with cluster(address):
        report = run_precompute(source, store, options)
    seconds = time.perf_counter() - start
    show_quarantined(report.quarantined, out)
    failed = len(report.quarantined)
    degraded = f" ({report.degraded} of damaged files)" if report.degraded else ""
    if report.missing_files:
        console.echo(
            f"{report.missing_files} stored items have no file any more: their features are kept "
            "until the corpus names them no more"
        )
    console.echo(
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
    options = {"--frames": frames, "--fps": fps, "--every": every}
    named = [f"{name} {value:g}" for name, value in options.items() if value is not None]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)}: only one of them")
    if fps is not None:
        return Rate(fps)
    return Every(every) if every is not None else Uniform(8 if frames is None else frames)
