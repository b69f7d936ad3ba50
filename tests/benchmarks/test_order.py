"""What only the order of frames tells: S2VT against the mean over frames, on clips held out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from intertitle.jobs.cluster.session import cluster
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.importers.synthetic import judge_order, render_corpus
from intertitle.pipeline.precompute.options import PrecomputeOptions
from intertitle.pipeline.precompute.run import precompute
from intertitle.training.config.recipe import load_recipe
from intertitle.training.runs.evaluate_run import evaluate_run
from intertitle.training.runs.train import train

NUM_CLIPS = 1000


@pytest.mark.bench
def test_order_of_frames(tmp_path: Path) -> None:
    corpus, store = tmp_path / "corpus", tmp_path / "features"
    render_corpus(corpus, num_clips=NUM_CLIPS, seed=0)
    scenes = {row["key"]: row for row in pq.read_table(corpus / "scenes.parquet").to_pylist()}
    with cluster(None):
        precompute(Corpus(corpus), store, PrecomputeOptions("efficientnet_lite0", Uniform(8)))
        for recipe in ("s2vt", "mean_pool_video"):
            result = train(
                load_recipe(recipe),
                corpus,
                store,
                workers=1,
                tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
                checkpoints=tmp_path / "checkpoints",
            )
            # The test split chose nothing; validation chose the epoch.
            samples = evaluate_run(result.run, split="test").samples
            counts: Counter[tuple[str, str]] = Counter()
            for sample in samples:
                scene = scenes[sample.item_key]
                if scene["order_only"]:
                    verdict = judge_order(sample.hypothesis, scene)
                    counts[scene["kind"], verdict] += 1
                    counts["all", verdict] += 1
            print(f"\n{recipe}, order-only clips of the test split:")
            for kind in sorted({kind for kind, _ in counts}, key=lambda kind: kind == "all"):
                right, backwards, neither = (
                    counts[kind, verdict] for verdict in ("right", "backwards", "neither")
                )
                told = f"{right / max(1, right + backwards):.0%} of those told one way or the other"
                print(
                    f"  {kind:14} right {right:3}, backwards {backwards:3}, neither {neither:3}: "
                    f"{right / (right + backwards + neither):6.1%} ({told})"
                )
