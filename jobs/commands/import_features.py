"""`intertitle import-features`: make a store from features that another program computed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer
from upath import UPath

from intertitle.jobs import console
from intertitle.jobs.options import Json
from intertitle.jobs.progress import EXIT_TOO_MANY_FAILED, show_quarantined
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import one_line
from intertitle.pipeline.feature_store.shards import Format
from intertitle.pipeline.storage.paths import as_path


def import_computed(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of .npy files, or .npz, .h5, .hdf5 or .parquet; see above for .npy."
        ),
    ],
    corpus: Annotated[
        UPath, typer.Option(parser=as_path, metavar="CORPUS", help="Corpus of the items.")
    ],
    out: Annotated[
        UPath,
        typer.Option(parser=as_path, metavar="STORE", help="Folder or URL of the store to write."),
    ],
    network: Annotated[
        str,
        typer.Option(metavar="NAME", help="Name of the network, part of the store's fingerprint."),
    ],
    features: Annotated[
        str,
        typer.Option(help="pooled: one vector per frame; grid: one vector per cell of a grid."),
    ] = "pooled",
    keys: Annotated[
        Path | None,
        typer.Option(
            help="Keys of the rows of one packed array: a key per line, or JSON lines with a key "
            "and the number of frames.",
        ),
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(
            help="Name of the packed array, or of a Parquet file's column; default: the only one, "
            "or features."
        ),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="Array that the values of --array are multiplied by.")
    ] = None,
    offset: Annotated[str | None, typer.Option(help="Array that is added to the product.")] = None,
    fps: Annotated[
        float, typer.Option(help="Number of frames per second, which gives the frames' times.")
    ] = 1.0,
    same_as: Annotated[
        UPath | None,
        typer.Option(
            parser=as_path,
            metavar="STORE",
            help="Store with features of the same network, whose fingerprint is used: models that "
            "were trained with it accept the new store.",
        ),
    ] = None,
    format: Annotated[str, typer.Option(help="Shard format: arrow or webdataset.")] = "arrow",
    shard_items: Annotated[int, typer.Option(help="Number of items per shard.")] = 256,
    allow_failed: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of items allowed to fail; above it, the exit code is 3."
        ),
    ] = 0.05,
    json: Json = False,
) -> None:
    """Make a feature store from features that another program computed.

    \b
    SOURCE
    FOLDER             a file KEY.npy for each item, in folders or not
    FILE.npz           an array for each item, by its key
    FILE.h5            a dataset for each item, by its key (extra: hdf5)
    FILE.parquet       columns key and features, a row for each item
    FILE.npy --keys K  one packed array; .npz and .h5 too, with --array

    An array has a row for each frame, or is the only frame's row; a row is a vector, and with
    --features grid one vector for each cell. A key is that of an item, or the name of its file with
    or without the ending. Items without a usable array are quarantined. Nothing is unpickled.
    """
    from intertitle.pipeline.feature_store.external.run import ImportOptions, import_features
    from intertitle.pipeline.feature_store.external.sources import SourceOptions

    options = ImportOptions(
        network=network,
        features=features,
        source=SourceOptions(keys, array, scale, offset),
        fps=fps,
        same_as=same_as,
        format=cast(Format, format),
        shard_items=shard_items,
    )
    with console.bar("features") as bar:
        report = import_features(source, Corpus(corpus), out, options, bar.update)
    show_quarantined(report.quarantined, out)
    failed = len(report.quarantined)
    if report.unknown:
        examples = ", ".join(map(one_line, report.unknown[:3]))
        console.echo(f"{len(report.unknown)} arrays name no item of the corpus, such as {examples}")
    if report.by_name:
        console.echo(f"{report.by_name} arrays matched by the name of the item's file")
    shape = " x ".join(map(str, report.fingerprint.shape))
    console.echo(
        f"{out}: {report.arrays} arrays read, {report.stored} stored ({report.frames} frames of "
        f"{shape}), {failed} quarantined"
    )
    if json:
        console.result(
            {
                "store": str(out),
                "snapshot": report.snapshot,
                "network": report.fingerprint.backbone,
                "sha256": report.fingerprint.weights_sha256,
                "shape": list(report.fingerprint.shape),
                "arrays": report.arrays,
                "stored": report.stored,
                "frames": report.frames,
                "quarantined": failed,
                "matched_by_name": report.by_name,
                "unknown": len(report.unknown),
            }
        )
    if failed > allow_failed * (report.stored + failed):
        raise typer.Exit(EXIT_TOO_MANY_FAILED)
