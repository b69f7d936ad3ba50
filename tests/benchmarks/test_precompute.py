"""Precompute on Ray against the bare loop of the same parts, on photographs.

`FLICKR8K=<folder>` takes the train split of a copy of Flickr8k; without it pictures are made.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.cluster import cluster
from pipeline.backbone import BATCH, OnnxBackbone, backbone_spec, onnx_model
from pipeline.corpus import Corpus, Item, write_corpus
from pipeline.importers.flickr8k import import_flickr8k
from pipeline.precompute import PrecomputeOptions, Progress, precompute
from pipeline.sampling import Uniform
from pipeline.work import Source, decode_chunk, write_features

NUM_PHOTOGRAPHS = 3000
SHARD_ITEMS = 256


def photographs(folder: Path) -> Corpus:
    """At most `NUM_PHOTOGRAPHS` photographs of 224 x 224 pixels or so."""
    if "FLICKR8K" in os.environ:
        import_flickr8k(Path(os.environ["FLICKR8K"]), folder / "all")
        items = Corpus(folder / "all").items()[:NUM_PHOTOGRAPHS]
    else:
        rng = np.random.default_rng(0)
        items = []
        for number in range(NUM_PHOTOGRAPHS):
            coarse = Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8))
            path = folder / f"{number:05d}.jpg"
            coarse.resize((224, 224), Image.Resampling.BICUBIC).save(path, quality=90)
            items.append(Item(path.name, str(path), "image"))
    return write_corpus(folder / "corpus", items, [])


def bare_loop(corpus: Corpus, folder: Path) -> float:
    """Items a second of one process that decodes, computes and writes, one after the other."""
    spec = backbone_spec("efficientnet_lite0")
    backbone = OnnxBackbone(onnx_model(spec), os.cpu_count() or 1)
    sources = [Source(item, corpus.locate(item)) for item in corpus.items()]
    folder.mkdir()
    backbone(np.zeros((BATCH, spec.size, spec.size, 3), np.uint8))
    began = time.perf_counter()
    for shard, at in enumerate(range(0, len(sources), SHARD_ITEMS)):
        decoded, parts = [], []
        end = min(at + SHARD_ITEMS, len(sources))
        for start in range(at, end, BATCH):
            items, frames = decode_chunk(
                sources[start : min(start + BATCH, end)], Uniform(1), spec.size
            )
            decoded.extend(items)
            parts.append(backbone(frames))
        write_features(folder / str(shard), "arrow", spec.dim, decoded, *parts)
    return len(sources) / (time.perf_counter() - began)


def on_ray(corpus: Corpus, store: Path) -> tuple[float, float]:
    """Items a second in the steady state, and over the whole call."""
    told: list[tuple[float, int]] = []

    def note(progress: Progress) -> None:
        told.append((time.perf_counter(), progress.done))

    options = PrecomputeOptions("efficientnet_lite0", Uniform(1), shard_items=SHARD_ITEMS)
    began = time.perf_counter()
    precompute(corpus, store, options, note)
    whole = len(corpus.items()) / (time.perf_counter() - began)
    # From the first shard accepted to the last full one: workers are warm, the queue is full.
    (start, first), (end, last) = told[1], told[-2]
    return (last - first) / (end - start), whole


@pytest.mark.bench
def test_precompute_against_the_bare_loop(tmp_path: Path) -> None:
    corpus = photographs(tmp_path)
    # Before and after, for a machine's speed drifts.
    before = bare_loop(corpus, tmp_path / "before")
    with cluster(None):
        steady, whole = on_ray(corpus, tmp_path / "store")
    after = bare_loop(corpus, tmp_path / "after")
    bare = (before + after) / 2
    print(
        f"\nprecompute, {len(corpus.items())} photographs: bare loop {before:.0f} and {after:.0f} "
        f"items/s; Ray {steady:.0f} in the steady state ({steady / bare:.2f} x), {whole:.0f} with "
        f"starting up ({whole / bare:.2f} x)"
    )
