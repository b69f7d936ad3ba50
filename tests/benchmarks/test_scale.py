"""Planning, merging and opening at sizes that no test of behaviour reaches, without any file.

The items name files that do not exist and the records are of quarantined items, so that what is
measured is the program's own work on its tables.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.corpus.schema import EXAMPLE_SCHEMA, ITEM_SCHEMA
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.feature_store.snapshot import RECORD_SCHEMA, Snapshot, publish
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.precompute.acceptance import merge
from intertitle.pipeline.precompute.plan import make_plan
from intertitle.pipeline.storage.paths import as_path
from tests.fingerprints import FINGERPRINT

MILLIONS = (1, 4)


def write_items(folder: Path, num_items: int) -> Corpus:
    folder.mkdir()
    with pq.ParquetWriter(folder / "items.parquet", ITEM_SCHEMA) as writer:
        for first in range(0, num_items, 250_000):
            numbers = range(first, min(first + 250_000, num_items))
            keys = [f"photograph-{n:09d}" for n in numbers]
            none = [None] * len(keys)
            columns = (keys, [f"{key}.jpg" for key in keys], ["image"] * len(keys), none, none)
            table = dict(zip(ITEM_SCHEMA.names, columns, strict=True))
            writer.write_table(pa.table(table, schema=ITEM_SCHEMA))
    pq.write_table(EXAMPLE_SCHEMA.empty_table(), folder / "examples.parquet")
    return Corpus(folder)


def quarantined(corpus: Corpus) -> Snapshot:
    """Return a snapshot in which no file of the corpus could be read."""
    items = corpus.item_table()
    columns = dict.fromkeys(RECORD_SCHEMA.names, pa.nulls(len(items)))
    columns |= {"key": items["key"], "source": items["uri"], "selection": items["kind"]}
    columns["file_missing"] = pa.array(np.zeros(len(items), bool))
    for name, text in (("stage", "decode"), ("error", "missing"), ("message", "no such file")):
        columns[name] = pa.array([text]).take(pa.array(np.zeros(len(items), np.int64)))
    return Snapshot(FINGERPRINT, {}, pa.table(columns).cast(RECORD_SCHEMA))


@contextmanager
def timed(seconds: dict[str, list[float]], what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds.setdefault(what, []).append(time.perf_counter() - start)


@pytest.mark.bench
def test_time_grows_with_the_number_of_items(tmp_path: Path) -> None:
    seconds: dict[str, list[float]] = {}
    for millions in MILLIONS:
        corpus = write_items(tmp_path / f"corpus-{millions}", millions * 1_000_000)
        store = as_path(tmp_path / f"store-{millions}")
        with timed(seconds, "plan a new store"):
            plan = make_plan(corpus, store, None, FINGERPRINT, 256, Limits())
            num_planned = sum(len(shard.rows) for shard in plan.shards())
        assert num_planned == millions * 1_000_000
        del plan
        with timed(seconds, "compare with a snapshot"):
            plan = make_plan(corpus, store, quarantined(corpus), FINGERPRINT, 256, Limits())
        assert not len(plan.todo_rows)
        with timed(seconds, "merge"):
            snapshot = merge(plan, None, [])
        with timed(seconds, "publish"):
            publish(store, snapshot)
        del plan, snapshot
        with timed(seconds, "open and look up"):
            record = FeatureStore(store).record("photograph-000999999")
        assert record and record.error == "missing"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"\n{millions} million items, {peak:.2f} GiB at most so far")
    for what, (few, many) in seconds.items():
        print(f"{what}: {few:.1f} s, {many:.1f} s, {many / few:.1f} times")
