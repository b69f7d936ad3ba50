"""Corpora of letters, and plans whose work is done with invented features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from upath import UPath

from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.corpus import Corpus, Item, write_corpus
from intertitle.pipeline.decoding.item_file import ItemFile, hash_item_file
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.pipeline.feature_store.snapshot import Snapshot, write_snapshot
from intertitle.pipeline.precompute.acceptance import accept, merge
from intertitle.pipeline.precompute.plan import Plan, make_plan
from intertitle.pipeline.precompute.work import DecodedItem, Rejection, rejected, write_features

SPEC = backbone_spec("efficientnet_lite0")
MAKE = make_fingerprint(SPEC, Uniform(1), "arrow", "float32")


def make_corpus(folder: Path, keys: str) -> Corpus:
    """Items named after letters; upper-case ones have no file."""
    for key in filter(str.islower, keys):
        (folder / f"{key}.png").write_text(f"content of {key}")
    return write_corpus(folder, [Item(key, f"{key}.png", "image") for key in keys], [])


def finish(plan: Plan, store: UPath, before: Snapshot | None = None) -> Snapshot:
    """Do a plan's work with invented features: items without a file are rejected."""
    made = [
        (shard.rows, accept(shard, store, MAKE, *attempt(shard.sources, store)))
        for shard in plan.shards()
    ]
    return merge(plan, before, made)


def attempt(sources: Sequence[ItemFile], store: UPath):
    gone = Rejection("decode", "missing", "gone")
    ended = [
        DecodedItem(source, state, np.zeros(1))
        if (state := hash_item_file(source))
        else rejected(source, gone)
        for source in sources
    ]
    values = np.ones((sum(len(item.times_s) for item in ended), *SPEC.shape), np.float32)
    return write_features(str(store / "shards" / "shard"), "arrow", SPEC.shape, ended, values)


def planned(plan: Plan) -> list[str]:
    return ["".join(source.item.key for source in shard.sources) for shard in plan.shards()]


def written(snapshot: Snapshot, store: UPath) -> UPath:
    file = store / "written.parquet"
    write_snapshot(file, snapshot)
    return file


def all_rejected(corpus: Corpus, store: UPath, error: str) -> Snapshot:
    """Return a snapshot in which all items failed before their files were read."""
    (shard,) = make_plan(corpus, store, None, MAKE, 3, Limits()).shards()
    died = [rejected(source, Rejection("decode", error, "died")) for source in shard.sources]
    none = np.zeros((0, *SPEC.shape), np.float32)
    ended = write_features(str(store / "shards" / "s"), "arrow", SPEC.shape, died, none)
    return accept(shard, store, MAKE, *ended)
