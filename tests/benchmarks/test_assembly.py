"""Time to assemble a batch, and host memory of a large split."""

from __future__ import annotations

import ctypes
import gc
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from intertitle.pipeline.corpus import Example, write_corpus
from intertitle.training.config.recipe import load_recipe
from intertitle.training.data.data_ref import Data
from intertitle.training.data.dataset import Dataset
from intertitle.training.data.sampler import BatchSampler
from intertitle.training.data.task import Task
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from tests.benchmarks.test_training import make_data, make_loop
from tests.training.conftest import open_data_ref

ROUNDS = 5
NUM_CAPTIONS = 500_000


@pytest.mark.bench
@pytest.mark.parametrize("batch_tokens", [1024, 16384])
def test_assembling_a_batch(batch_tokens: int, tmp_path: Path) -> None:
    recipe = load_recipe("show_and_tell", [f"training.batch_tokens={batch_tokens}"])
    _, train, batches = make_loop(make_data(tmp_path), recipe, "cpu")
    best = {}
    for name, assemble in (
        ("with features", train.batch),
        ("tokens alone", lambda rows: train._targets.padded(rows)),
        ("one by one", lambda rows: train.with_targets([(n, ()) for n in rows // 5])),
    ):
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for rows in batches:
                assemble(rows)
            times.append(time.perf_counter() - began)
        best[name] = 1e6 * min(times) / len(train)
    print(f"\n{batch_tokens} tokens a batch, us a row:", {n: round(t, 2) for n, t in best.items()})


@pytest.mark.bench
def test_memory_of_many_captions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{n}" for n in range(9000)])
    write_corpus(
        tmp_path,
        [],
        (
            Example(
                f"{n:07d}", "train", None, None, (" ".join(words[rng.integers(9000, size=11)]),)
            )
            for n in range(NUM_CAPTIONS)
        ),
    )
    data = Data(open_data_ref(tmp_path, None, "nothing"))
    vocabularies = Vocabs(Tokenizer.captions(words.tolist(), min_count=1))
    task = Task("nothing", has_source=False, output="sentence")
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    before = process.memory_info().rss
    dataset = Dataset(data, "train", task, vocabularies, 30, 30)
    BatchSampler(dataset.lengths, 1024, 100, 0)
    gc.collect()
    # Memory that was freed, and that the C library keeps, is not the data's.
    ctypes.CDLL(None).malloc_trim(0)
    grown = process.memory_info().rss - before
    each = (grown - 4 * int(dataset.lengths.sum())) / NUM_CAPTIONS
    print(f"\n{NUM_CAPTIONS:,} captions: {each:.0f} bytes each beside their tokens")
