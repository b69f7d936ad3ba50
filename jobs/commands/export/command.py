"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from upath import UPath

from intertitle.jobs import console
from intertitle.jobs.options import AllowHost, Json, TrackingUri, allow_hosts
from intertitle.pipeline.corpus import TABLES
from intertitle.pipeline.corpus import Corpus as OpenCorpus
from intertitle.pipeline.errors import UserError, one_line
from intertitle.pipeline.storage.paths import as_path, is_url

SHOWN = 20


def export(
    source: Annotated[
        str,
        typer.Argument(metavar="STORE|CORPUS|PREDICTIONS|RUN", help="Data or run to export."),
    ],
    out: Annotated[Path, typer.Argument(help="New file or folder.")],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="hf, webdataset, parquet, coco, csv or onnx.")
    ],
    corpus: Annotated[
        UPath | None,
        typer.Option(
            parser=as_path,
            metavar="CORPUS",
            help="Corpus of predictions, which numbers the images for --to coco.",
        ),
    ] = None,
    license: Annotated[
        str, typer.Option(help="Licence of the weights, for the card of a run's model.")
    ] = "unknown",
    allow_host: AllowHost = None,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Export a corpus, features, predictions or a model in the formats of other programs.

    \b
    CORPUS       hf: a folder per split with metadata.jsonl; webdataset: tars;
                 parquet, coco: a table or JSON per split; csv: a row per text
    STORE        parquet: key, times_s, features; webdataset: tars of .npy
    PREDICTIONS  coco: results of captions or, for questions, of VQA; csv; parquet
    RUN          hf: the model with a model card; onnx: encoder and step with a card
    """
    from intertitle.jobs.commands.export.model import export_model
    from intertitle.jobs.commands.export.predictions import export_predictions, is_predictions
    from intertitle.pipeline.export.corpus import export_corpus
    from intertitle.pipeline.export.store import export_store
    from intertitle.pipeline.feature_store.store import FeatureStore

    allow_hosts(allow_host)
    path = as_path(source)
    local = None if is_url(source) else Path(source)
    if local is not None and is_predictions(local):
        numbered = None if corpus is None else OpenCorpus(corpus)
        exported = export_predictions(local, to, out, numbered)
    elif corpus is not None:
        raise UserError(f"--corpus {corpus}: only for predictions, {source} are none")
    elif (path / "CURRENT").is_file():
        exported = export_store(FeatureStore(path), to, out)
    elif (path / TABLES[0]).is_file():
        exported = export_corpus(OpenCorpus(path), to, out)
    elif to != "onnx" and path.exists():
        raise UserError(
            f"{source}: no corpus, feature store or predictions (.jsonl, .parquet or a folder)"
        )
    else:
        exported = export_model(source, to, out, license, tracking_uri)
    for key in exported.missing[:SHOWN]:
        console.echo(f"left out, its file can't be read: {one_line(key)}")
    if len(exported.missing) > SHOWN:
        console.echo(f"left out: {len(exported.missing) - SHOWN} more")
    counts = {"rows": exported.rows, "files": exported.files}
    written = [f"{number:,} {name}" for name, number in counts.items() if number]
    console.echo(f"{out}: {', '.join(written) or 'nothing to write'}")
    if json:
        missing = len(exported.missing)
        console.result({"out": str(out), **counts, "missing": missing})
