"""`intertitle demo`: run every step from import to evaluation on drawn clips, on this machine."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.cluster.session import cluster
from intertitle.jobs.commands.train import as_json, show_scores
from intertitle.jobs.options import Json
from intertitle.jobs.progress import run_import, run_precompute, training_progress
from intertitle.jobs.tracking import store_option
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.storage.paths import as_path

NUM_CLIPS = 700
NUM_SHOWN = 5


def demo(
    workdir: Annotated[Path, typer.Option(help="Folder for all files of the demo.")] = Path("demo"),
    json: Json = False,
) -> None:
    """Draw clips, extract frames, compute features, train S2VT on two workers, and evaluate it."""
    start = time.perf_counter()
    with console.step("loading PyTorch and Ray"):
        from intertitle.pipeline.precompute.options import PrecomputeOptions
        from intertitle.training.config.recipe import load_recipe
        from intertitle.training.runs.train import train
        from intertitle.training.tracking.store.sqlite import sqlite_uri

    corpus, store = workdir / "corpus", workdir / "features"
    tracking_uri = sqlite_uri(workdir / "mlflow.db")
    run_import("rendered", [], corpus, num_clips=NUM_CLIPS, seed=0)
    with cluster(None):
        features = run_precompute(
            Corpus(corpus),
            as_path(store),
            PrecomputeOptions("efficientnet_lite0", Uniform(8), shard_items=100),
        )
        with training_progress() as watch:
            result = train(
                load_recipe("s2vt"),
                corpus,
                store,
                workers=min(2, os.cpu_count() or 1),
                tracking_uri=tracking_uri,
                checkpoints=workdir / "checkpoints",
                on_start=watch.on_start,
                on_report=watch.on_report,
            )
    samples = result.evaluation.samples
    rows = [
        (sample.item_key, sample.hypothesis, "\n".join(sample.references[:2]))
        for sample in samples[:: max(1, len(samples) // NUM_SHOWN)][:NUM_SHOWN]
    ]
    console.table("five clips", ("clip", "the model says", "two of the references"), rows)
    seconds = time.perf_counter() - start
    console.echo(f"\n{features.stored} clips, {seconds:.0f} s in all; everything is in {workdir}/")
    show_scores(result)
    run, store_flag = shlex.quote(result.run.name), store_option(result.run.tracking_uri)
    clips = corpus / "clips"
    clip = shlex.quote(str(clips / "clip-00000.mp4"))
    console.echo(
        "\nwhat to do next:\n"
        f"  intertitle predict {run} {clip}{store_flag}\n"
        f"  intertitle evaluate {run} --beam 5{store_flag}\n"
        f"  intertitle ui{store_flag}\n"
        f"  intertitle serve {run} --page --examples {shlex.quote(str(clips))}{store_flag}"
    )
    if json:
        console.result({**as_json(result), "seconds": round(seconds, 1)})
