"""Precompute on Ray against a bare loop of the same parts, against what a user would write, and on
two cores against one; on photographs and on clips.

`FLICKR8K=<folder>` takes the train split of a copy of Flickr8k; without it pictures are made.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import decord
import numpy as np
import pytest
import torch
from PIL import Image

from intertitle.jobs.cluster.session import cluster
from intertitle.pipeline.backbones import (
    BATCH,
    backbone_spec,
    efficientnet,
    open_backbone,
    prepare_backbone,
)
from intertitle.pipeline.backbones.torch_runtime import TorchBackbone
from intertitle.pipeline.corpus import Corpus, Item, write_corpus
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Sampling, Uniform
from intertitle.pipeline.importers.flickr8k import import_flickr8k
from intertitle.pipeline.importers.synthetic import render_corpus
from intertitle.pipeline.precompute.options import PrecomputeOptions, PrecomputeProgress
from intertitle.pipeline.precompute.run import precompute
from intertitle.pipeline.precompute.work import decode_chunk, write_features

NUM_PHOTOGRAPHS = 3000
NUM_CLIPS = 400
SHARD_ITEMS = 256
SPEC = backbone_spec("efficientnet_lite0")


@dataclass(frozen=True)
class Work:
    """A corpus, and how many frames of each of its items are looked at."""

    name: str
    corpus: Corpus
    sampling: Sampling
    frames: int
    shard_items: int


def photographs(folder: Path) -> Work:
    """At most `NUM_PHOTOGRAPHS` photographs of 224 x 224 pixels or so."""
    folder.mkdir()
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
    return Work(
        "photographs", write_corpus(folder / "corpus", items, []), Uniform(1), 1, SHARD_ITEMS
    )


def clips(folder: Path) -> Work:
    """Drawn clips, sixteen frames of each."""
    render_corpus(folder, num_clips=NUM_CLIPS, seed=0)
    return Work("clips", Corpus(folder), Uniform(16), 16, 32)


def bare_loop(work: Work, folder: Path) -> float:
    """Items a second of one process that decodes, computes and writes, one after the other."""
    backbone = open_backbone(SPEC, os.cpu_count() or 1, prepare_backbone(SPEC, "float32"))
    sources = [ItemFile(item, str(work.corpus.path)) for item in work.corpus.items()]
    folder.mkdir()
    backbone(np.zeros((BATCH, SPEC.size, SPEC.size, 3), np.uint8))
    chunk = BATCH // work.frames
    began = time.perf_counter()
    for shard, at in enumerate(range(0, len(sources), work.shard_items)):
        mine = sources[at : at + work.shard_items]
        decoded, parts = [], []
        for start in range(0, len(mine), chunk):
            items, frames = decode_chunk(
                mine[start : start + chunk], work.sampling, SPEC.size, Limits()
            )
            decoded.extend(items)
            parts.append(backbone(frames))
        write_features(str(folder / str(shard)), "arrow", SPEC.shape, decoded, *parts)
    return len(sources) / (time.perf_counter() - began)


def on_ray(work: Work, store: Path) -> tuple[float, float]:
    """Items a second in the steady state, and over the whole call."""
    told: list[tuple[float, int]] = []

    def note(progress: PrecomputeProgress) -> None:
        told.append((time.perf_counter(), progress.done))

    options = PrecomputeOptions("efficientnet_lite0", work.sampling, shard_items=work.shard_items)
    total = work.corpus.num_items()
    began = time.perf_counter()
    precompute(work.corpus, store, options, note)
    whole = total / (time.perf_counter() - began)
    # Without the first and the last tenth: workers are warm, the queue is full.
    warm = [(when, done) for when, done in told if 0.1 * total <= done <= 0.9 * total]
    (start, first), (end, last) = warm[0], warm[-1]
    return (last - first) / (end - start), whole


def a_user(work: Work, num_items: int) -> float:
    """Items a second of what a user would write: OpenCV or decord, then the network in PyTorch, an
    item after the other, as `prepro_feats.py` of ImageCaptioning.pytorch and video_features do."""
    network = TorchBackbone(SPEC, efficientnet.make_network(SPEC, None))
    side = (SPEC.size, SPEC.size)
    items = work.corpus.items()[:num_items]
    features = []
    began = time.perf_counter()
    for item in items:
        path = str(work.corpus.locate(item))
        if item.kind == "image":
            frames = cv2.resize(cv2.imread(path)[:, :, ::-1], side)[None]
        else:
            reader = decord.VideoReader(path)
            at = np.linspace(0, len(reader) - 1, work.frames).astype(int)
            frames = np.stack([cv2.resize(f, side) for f in reader.get_batch(at).asnumpy()])
        features.append(network(frames))
    return len(items) / (time.perf_counter() - began)


@contextmanager
def cores(count: int) -> Iterator[None]:
    """So many cores, for this process and those it starts."""
    before = os.sched_getaffinity(0)
    threads = torch.get_num_threads()
    os.sched_setaffinity(0, sorted(before)[:count])
    torch.set_num_threads(count)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_OVERRIDE_RESOURCES", f'{{"CPU": {count}}}')
            with cluster(None):
                yield
    finally:
        os.sched_setaffinity(0, before)
        torch.set_num_threads(threads)


@pytest.mark.bench
@pytest.mark.parametrize("make", [photographs, clips])
def test_precompute(make: Callable[[Path], Work], tmp_path: Path) -> None:
    work = make(tmp_path / "work")
    # Before and after, for a machine's speed drifts.
    before = bare_loop(work, tmp_path / "before")
    user = a_user(work, work.corpus.num_items() // 10)
    with cores(2):
        steady, whole = on_ray(work, tmp_path / "store")
    after = bare_loop(work, tmp_path / "after")
    user = (user + a_user(work, work.corpus.num_items() // 10)) / 2
    bare = (before + after) / 2
    with cores(1):
        single, _ = on_ray(work, tmp_path / "single")
    print(
        f"\nprecompute, {work.corpus.num_items()} {work.name}, {work.frames} frames each: "
        f"Ray {steady:.1f} items/s in the steady state, {whole:.1f} with starting up; "
        f"bare loop {before:.1f} and {after:.1f} ({steady / bare:.2f} x, {whole / bare:.2f} x); "
        f"a user's loop {user:.1f} ({steady / user:.1f} x); "
        f"one core {single:.1f} (two cores {steady / single:.2f} x)"
    )
