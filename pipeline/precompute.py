"""From a corpus to a store of features, on Ray: the only module of the pipeline that knows it.

    plan ──► decode a chunk ──► backbone ──► write a shard ──► accept ──► snapshot
    (driver)   (Ray task)      (Ray actor)    (Ray task)      (driver)    (driver)

The plan depends on the corpus and the store's last snapshot alone, a shard holds fixed keys in a
fixed order, and the driver accepts one attempt a shard: so the same corpus gives the same bytes,
whatever the number of workers and whoever died on the way. Frames and features stay in Ray's object
store; the driver handles references, and a line an item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from pipeline.backbone import (
    BATCH,
    Backbone,
    BackboneSpec,
    OnnxBackbone,
    TorchBackbone,
    backbone_spec,
    onnx_model,
)
from pipeline.corpus import Corpus
from pipeline.errors import JobError, UserError
from pipeline.fingerprint import make_fingerprint
from pipeline.plan import ShardPlan, accept, accepted_before, make_plan, merge
from pipeline.sampling import Sampling, Uniform
from pipeline.shards import SUFFIXES, Format, ShardFile
from pipeline.store import ItemRecord, Snapshot, current_snapshot, publish
from pipeline.work import DecodedItem, Rejection, Source, decode_chunk, reject, write_features


@dataclass(frozen=True, slots=True)
class PrecomputeOptions:
    """How features are made.

    Attributes:
        backbone: name of the network.
        sampling: which frames of a video.
        format: of the shards, "arrow" or "webdataset".
        shard_items: how many items a shard holds.
        workers: how many backbone workers; None is one a GPU, or one a node without GPUs.
    """

    backbone: str
    sampling: Sampling
    format: Format = "arrow"
    shard_items: int = 256
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.format not in SUFFIXES:
            raise UserError(f"format: {self.format!r}, allowed: {', '.join(SUFFIXES)}")
        for name, value in (("shard_items", self.shard_items), ("workers", self.workers)):
            if value is not None and value < 1:
                raise UserError(f"{name}: {value}, allowed: 1 or more")


@dataclass(frozen=True, slots=True)
class PrecomputeReport:
    """What a call did; stored and quarantined items are together every item of the corpus.

    Attributes:
        snapshot: the id of the snapshot it published, or found up to date.
        stored: how many items have features.
        quarantined: the items that have none, and why.
        skipped: how many, among both, were as they had been and were left alone.
    """

    snapshot: str
    stored: int
    quarantined: tuple[ItemRecord, ...]
    skipped: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call is: items `done` of `total`, of which `failed` went to quarantine."""

    done: int
    total: int
    failed: int


def precompute(
    corpus: Corpus,
    store: Path,
    options: PrecomputeOptions,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> PrecomputeReport:
    """Make the features of every item of a corpus that the store has not, and publish a snapshot.

    Needs a running Ray (`ray.init`). Items that can't be decoded end in the snapshot's quarantine;
    they are tried again only when their file changes.

    Raises:
        UserError: the store holds features of another make, or more workers than GPUs are wanted.
        JobError: a worker failed for good; what was accepted is kept for the next call.
    """
    spec = backbone_spec(options.backbone)
    fingerprint = make_fingerprint(spec, options.sampling, options.format)
    before = current_snapshot(store)
    if before is not None and before.fingerprint != fingerprint:
        raise UserError(
            f"{store}: holds features of another make: "
            f"{'; '.join(before.fingerprint.differences(fingerprint))}; choose another --out"
        )
    plan = make_plan(corpus, store, before, fingerprint, options.shard_items)
    (store / "shards").mkdir(parents=True, exist_ok=True)

    done = len(plan.kept)
    failed = sum(not record.is_stored for record in plan.kept.values())
    made: list[Snapshot] = []

    def take(shard: Snapshot) -> None:
        nonlocal done, failed
        made.append(shard)
        done += len(shard.records)
        failed += len(shard.quarantined())
        on_progress(Progress(done, len(plan.sources), failed))

    on_progress(Progress(done, len(plan.sources), failed))
    missing: list[ShardPlan] = []
    for shard_plan in plan.shards:
        if earlier := accepted_before(shard_plan, store):
            take(earlier)
        else:
            missing.append(shard_plan)
    if missing:
        try:
            with _Workers(spec, options.workers) as workers:
                for shard_plan, decoded, attempt in _run(missing, workers, store, spec, options):
                    take(accept(shard_plan, store, fingerprint, decoded, attempt))
        except FileNotFoundError as error:
            raise JobError(
                f"{error.filename}: written by a worker, but not to be seen here; "
                "a store has to be where every node sees it"
            ) from error
        except ray.exceptions.RayError as error:
            line = str(error).strip().splitlines()[-1]
            raise JobError(f"precompute failed: {type(error).__name__}: {line}") from error

    snapshot = merge(plan, before, made, fingerprint)
    name = snapshot.id() if snapshot == before else publish(store, snapshot)
    for shard_plan in plan.shards:
        shard_plan.pending.unlink(missing_ok=True)
    return PrecomputeReport(
        name, snapshot.counts()["stored"], tuple(snapshot.quarantined()), skipped=len(plan.kept)
    )


# Retries are the driver's: Ray would try a chunk that crashes again, whole.
_decode_chunk = ray.remote(num_cpus=1, num_returns=2, max_retries=0)(decode_chunk)
_write_features = ray.remote(num_cpus=0, num_returns=2)(write_features)


@dataclass
class _Shard:
    """A shard in the making: its chunks arrive in any order."""

    plan: ShardPlan
    num_chunks: int
    chunks: dict[int, tuple[list[DecodedItem], Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Chunk:
    """A part of a shard that is being decoded."""

    shard: _Shard
    index: int
    sources: Sequence[Source]
    frames: Any


def _run(
    plans: list[ShardPlan],
    workers: _Workers,
    store: Path,
    spec: BackboneSpec,
    options: PrecomputeOptions,
) -> Iterator[tuple[ShardPlan, list[DecodedItem], ShardFile]]:
    """Keep decode tasks, backbones and writers busy, and the frames in memory few."""
    sampling = options.sampling
    chunk_items = max(1, BATCH // sampling.num_frames) if isinstance(sampling, Uniform) else 1
    max_chunks = 2 * workers.num_cpus + 2
    todo = _chunks(plans, chunk_items)
    decoding: dict[Any, _Chunk] = {}
    embedding: set[Any] = set()
    writing: dict[Any, tuple[_Shard, Any]] = {}

    while True:
        while len(decoding) + len(embedding) < max_chunks and (part := next(todo, None)):
            shard, index, sources = part
            decoded, frames = _decode_chunk.remote(sources, sampling, spec.size)
            decoding[decoded] = _Chunk(shard, index, sources, frames)
        if not (decoding or embedding or writing):
            return
        (ref,), _ = ray.wait([*decoding, *embedding, *writing], num_returns=1)
        if ref in decoding:
            chunk = decoding.pop(ref)
            try:
                items, frames = ray.get(ref), chunk.frames
            except ray.exceptions.RayError:
                # The process died: find out whose fault it was.
                items, frames = _decode_singly(chunk.sources, sampling, spec.size)
            features = workers.embed(frames)
            embedding.add(features)
            shard = chunk.shard
            shard.chunks[chunk.index] = (items, features)
            if len(shard.chunks) == shard.num_chunks:
                parts = [shard.chunks[index] for index in range(shard.num_chunks)]
                target = store / "shards" / f"shard-{shard.plan.number:05d}"
                ended, file = _write_features.remote(
                    target,
                    options.format,
                    spec.dim,
                    [item for items, _ in parts for item in items],
                    *(features for _, features in parts),
                )
                writing[file] = (shard, ended)
        elif ref in embedding:
            embedding.remove(ref)
        else:
            shard, ended = writing.pop(ref)
            yield shard.plan, ray.get(ended), ray.get(ref)


def _chunks(
    plans: list[ShardPlan], chunk_items: int
) -> Iterator[tuple[_Shard, int, tuple[Source, ...]]]:
    for plan in plans:
        starts = range(0, len(plan.sources), chunk_items)
        shard = _Shard(plan, len(starts))
        for index, at in enumerate(starts):
            yield shard, index, plan.sources[at : at + chunk_items]


def _decode_singly(
    sources: Sequence[Source], sampling: Sampling, size: int
) -> tuple[list[DecodedItem], Any]:
    """Decode each item of a chunk in a task of its own: one that dies again costs itself alone."""
    decoded: list[DecodedItem] = []
    frames = [np.zeros((0, size, size, 3), np.uint8)]
    for source in sources:
        try:
            # Both or neither: frames lost after their item was counted would count it twice.
            items, pixels = ray.get(list(_decode_chunk.remote((source,), sampling, size)))
        except ray.exceptions.RayError as error:
            message = f"{source.path}: the decoder died ({type(error).__name__})"
            decoded.append(reject(source, Rejection("decode", "crashed", message)))
        else:
            decoded.extend(items)
            frames.append(pixels)
    return decoded, ray.put(np.concatenate(frames))


class _BackboneWorker:
    """Holds a network; lives in a Ray actor."""

    def __init__(self, spec: BackboneSpec, num_threads: int) -> None:
        self._dim = spec.dim
        # Ray may know of a GPU that this installation of torch can't use.
        self._backbone: Backbone = (
            TorchBackbone("cuda")
            if torch.cuda.is_available()
            else OnnxBackbone(onnx_model(spec), num_threads)
        )

    def embed(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._backbone(frames) if len(frames) else np.zeros((0, self._dim), np.float32)


class _Workers:
    """The backbone actors of one call, in turn."""

    def __init__(self, spec: BackboneSpec, count: int | None) -> None:
        resources = ray.cluster_resources()
        num_gpus = int(resources.get("GPU", 0))
        self.num_cpus = max(1, int(resources.get("CPU", 1)))
        if num_gpus and count and count > num_gpus:
            raise UserError(f"workers: {count}, allowed: at most {num_gpus}, one a GPU")
        count = count or num_gpus or sum(node["Alive"] for node in ray.nodes())
        # A backbone on a CPU shares the cores with the decode tasks that feed it. Reserving cores
        # for either would leave some idle, so it reserves none and the system shares them out.
        actor = ray.remote(_BackboneWorker).options(
            num_cpus=0,
            num_gpus=1 if num_gpus else 0,
            scheduling_strategy="SPREAD",
            max_restarts=3,
            max_task_retries=3,
        )
        if not num_gpus:
            # Exported once here, rather than by every actor of this machine at the same time.
            onnx_model(spec)
        threads = max(1, self.num_cpus // count)
        self._actors = [actor.remote(spec, threads) for _ in range(count)]
        self._calls = 0

    def embed(self, frames: Any) -> Any:
        """Hand a chunk's frames to an actor; a reference to its features."""
        actor = self._actors[self._calls % len(self._actors)]
        self._calls += 1
        return actor.embed.remote(frames)

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            ray.kill(actor)
