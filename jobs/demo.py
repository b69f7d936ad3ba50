"""`intertitle demo`: the whole road on clips that the program draws, on this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from jobs import console
from jobs.cluster import cluster
from jobs.importing import run_import
from jobs.options import Json
from jobs.precompute import run_precompute
from jobs.train import as_json, show_result
from jobs.watch import watching
from pipeline.corpus import Corpus
from pipeline.location import location
from pipeline.sampling import Uniform

NUM_CLIPS = 700
NUM_SHOWN = 5


def demo(
    workdir: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    json: Json = False,
) -> None:
    """Draw clips, extract frames, compute features, train S2VT on two workers, and score it."""
    from pipeline.precompute import PrecomputeOptions
    from training.config import load_recipe
    from training.experiment import train
    from training.tracking.sqlite import sqlite_uri

    began = time.perf_counter()
    corpus, store = workdir / "corpus", workdir / "features"
    run_import("rendered", [], corpus, NUM_CLIPS, seed=0)
    with cluster(None):
        features = run_precompute(
            Corpus(corpus),
            location(store),
            PrecomputeOptions("efficientnet_lite0", Uniform(8), shard_items=100),
        )
        with watching() as watch:
            result = train(
                load_recipe("s2vt"),
                corpus,
                store,
                workers=min(2, os.cpu_count() or 1),
                tracking_uri=sqlite_uri(workdir / "mlflow.db"),
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
    seconds = time.perf_counter() - began
    console.say(f"\n{features.stored} clips, {seconds:.0f} s in all; everything is in {workdir}/")
    show_result(result)
    if json:
        console.result({**as_json(result), "seconds": round(seconds, 1)})
