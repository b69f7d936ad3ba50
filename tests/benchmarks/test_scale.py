"""Import, planning, merging and opening at sizes that no test of behaviour reaches.

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
import pytest

from intertitle.pipeline.corpus import Corpus, Item, write_corpus
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.feature_store.snapshot import RECORD_SCHEMA, Snapshot, publish
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.precompute.acceptance import merge
from intertitle.pipeline.precompute.plan import make_plan
from intertitle.pipeline.storage.paths import as_path
from tests.fingerprints import FINGERPRINT

MILLIONS = (1, 4)


def photographs(num_items: int) -> Iterator[Item]:
    for number in range(num_items):
        key = f"photograph-{number:09d}"
        yield Item(key, f"{key}.jpg", "image")


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
        num_items = millions * 1_000_000
        with timed(seconds, "import"):
            corpus = write_corpus(tmp_path / f"corpus-{millions}", photographs(num_items), ())
        store = as_path(tmp_path / f"store-{millions}")
        with timed(seconds, "plan a new store"):
            plan = make_plan(corpus, store, None, FINGERPRINT, 256, Limits())
            num_planned = sum(len(shard.rows) for shard in plan.shards())
        assert num_planned == num_items
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
