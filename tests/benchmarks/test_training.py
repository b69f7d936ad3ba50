"""Training `show_and_tell` against what else a user might run, one worker, the same batches:

a bare `nn.LSTM` loop whose batches are ready in memory; the same over packed sequences; a loop over
the steps, each with its words and its vocabulary, as ImageCaptioning.pytorch has it; our own loop
over batches of random lengths, and the bare one over those, with padding told like words. Where
there is a GPU, also what bfloat16, whole sequences and larger batches give on it, and what share of
the card's matrix rate.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from intertitle.pipeline.corpus import Example, Item, write_corpus
from intertitle.pipeline.feature_store.fingerprint import Fingerprint
from intertitle.pipeline.feature_store.shards import ItemFeatures, write_shard
from intertitle.pipeline.feature_store.snapshot import ItemRecord, Snapshot, publish, table_of
from intertitle.pipeline.storage.paths import as_path
from intertitle.training.config.recipe import Recipe, change_recipe, load_recipe
from intertitle.training.data.data_ref import Data, DataRef
from intertitle.training.data.dataset import Dataset, open_dataset
from intertitle.training.data.sampler import BatchSampler, Rows
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models.build import sizes_of, task_of
from intertitle.training.trainer.distributed import Ranks
from intertitle.training.trainer.loop import TrainingLoop
from tests.benchmarks.bare import FEATURE_DIM as DIM
from tests.benchmarks.bare import Bare, bare_step
from tests.training.conftest import open_data_ref

NUM_PHOTOGRAPHS, NUM_WORDS = 2000, 2500
STEPS, ROUNDS = 12, 5


def make_data(folder: Path) -> DataRef:
    """As many captions, as long and of as many words, as make the arithmetic that of Flickr8k.

    Their lengths have its mean, spread and tail.
    """
    rng = np.random.default_rng(0)
    keys = [f"{n:05d}" for n in range(NUM_PHOTOGRAPHS)]
    examples = [
        Example(
            f"{split}-{key}",
            split,
            key,
            None,
            tuple(
                " ".join(f"w{w}" for w in rng.integers(NUM_WORDS, size=length))
                for length in np.clip(rng.gamma(8.26, 1.31, 5).round(), 1, 30).astype(int)
            ),
        )
        for split, some in (("train", keys), ("val", keys[:8]))
        for key in some
    ]
    corpus = write_corpus(folder / "corpus", [Item(k, k, "image") for k in keys], examples)
    store = folder / "store"
    (store / "shards").mkdir(parents=True)
    rows = [ItemFeatures(k, np.zeros(1), rng.random((1, DIM), np.float32)) for k in keys]
    shard = write_shard(store / "shards" / "shard-00000-0.arrow", "arrow", rows, (DIM,))
    records = tuple(
        ItemRecord(k, k, "image", shard=shard.name, row=row, num_frames=1)
        for row, k in enumerate(keys)
    )
    fingerprint = Fingerprint(
        "none", "pooled", "", "", "float32", "uniform:1", 1, (DIM,), "float32", "arrow"
    )
    publish(as_path(store), Snapshot(fingerprint, {shard.name: shard}, table_of(records)))
    return open_data_ref(corpus.path, store, "pooled")


def random_batches(lengths: Rows, batch_tokens: int, like: list[Rows]) -> list[Rows]:
    """Batches of rows as they come, as large as memory allows: as many padded tokens each."""
    rng = np.random.default_rng(1)
    order = rng.permutation(len(lengths))
    batches, start = [], 0
    for _ in like:
        end = start + 1
        while (end + 1 - start) * lengths[order[start : end + 1]].max() <= batch_tokens:
            end += 1
        batches.append(order[start:end])
        start = end
    return batches


def make_loop(
    source: DataRef, recipe: Recipe, device: str
) -> tuple[TrainingLoop, Dataset, list[Rows]]:
    """A loop over some data, what it learns from, and an epoch's batches of that."""
    words = Vocabs(Tokenizer.captions([" ".join(f"w{w}" for w in range(NUM_WORDS))], min_count=1))
    task = task_of(recipe.model)
    train, val = (
        open_dataset(Data(source), split, recipe, task, words) for split in ("train", "val")
    )
    assert isinstance(train, Dataset)
    loop = TrainingLoop(
        recipe, words, train, val, sizes_of(words, source), torch.device(device), Ranks()
    )
    loop.model.train()
    settings = recipe.training
    sampler = BatchSampler(train.lengths, settings.batch_tokens, settings.pool_batches, 0)
    return loop, train, sampler.epoch(0)


@pytest.mark.bench
def test_training_against_other_loops(tmp_path: Path) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    recipe = load_recipe("show_and_tell")
    loop, train, rows = make_loop(make_data(tmp_path), recipe, "cpu")
    rows = rows[: STEPS * ROUNDS]
    others = random_batches(train.lengths, recipe.training.batch_tokens, rows)
    ready, others_ready = ([train.batch(some) for some in batches] for batches in (rows, others))
    size = (loop.model.words.bias.shape[0], recipe.model.embedding_size, recipe.model.hidden_size)
    ways: dict[str, tuple[Callable[[int], object], list[Rows]]] = {
        "ours": (lambda step: loop.train_step(rows[step], 0.5), rows),
        "our loop, random batches": (lambda step: loop.train_step(others[step], 0.5), others),
        "loading alone": (lambda step: train.batch(rows[step]), rows),
        **{
            f"bare nn.LSTM, {how}": (bare_step(Bare(*size, how), ready), rows)
            for how in ("whole", "packed", "steps")
        },
        "bare nn.LSTM, random batches, padding told": (
            bare_step(Bare(*size, "padded"), others_ready),
            others,
        ),
    }
    seconds = dict.fromkeys(ways, 0.0)
    for part in range(ROUNDS):
        for name, (step_of, _) in ways.items():
            for step in range(2):
                step_of(step)
            began = time.perf_counter()
            for step in range(part * STEPS, (part + 1) * STEPS):
                step_of(step)
            seconds[name] += time.perf_counter() - began
    rates = {
        name: sum(train.num_targets(some) for some in batches) / seconds[name]
        for name, (_, batches) in ways.items()
    }
    print()
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} words/s; ours is {rates['ours'] / rate:.2f} x")
    print(f"loading takes {100 * seconds['loading alone'] / seconds['ours']:.1f} % of a step")


@pytest.mark.bench
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("batch_tokens", [1024, 16384])
def test_training_on_a_gpu(batch_tokens: int, tmp_path: Path) -> None:
    recipe = load_recipe("show_and_tell", [f"training.batch_tokens={batch_tokens}"])
    data, loops = make_data(tmp_path), {}
    for precision in ("float32", "bfloat16", "float16"):
        settings = [f"training.precision={precision}"]
        loop, train, rows = make_loop(data, change_recipe(recipe, settings, "test"), "cuda")
        loops[precision] = loop
    ready = [train.batch(some).to(torch.device("cuda")) for some in rows]
    vocabulary, embedding, hidden = (
        loop.model.words.bias.shape[0],
        recipe.model.embedding_size,
        recipe.model.hidden_size,
    )

    def bare(how: str) -> Callable[[int], None]:
        step = bare_step(Bare(vocabulary, embedding, hidden, how).to("cuda"), ready)

        def in_half(number: int) -> None:
            with torch.autocast("cuda", torch.bfloat16):
                step(number)

        return in_half

    ways: dict[str, Callable[[int], object]] = {
        f"ours, {name}": lambda step, one=one: one.train_step(rows[step], 0.5)
        for name, one in loops.items()
    } | {
        "bare nn.LSTM, whole, bfloat16": bare("whole"),
        "bare nn.LSTM, steps, bfloat16": bare("steps"),
    }
    a, b = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16)
    peak = 2 * 8192**3 * 20 / timed(lambda _: a @ b, 20)
    # A word's products in the LSTM, and those that name it; twice as many again going back.
    a_word = 3 * 2 * (4 * hidden * (embedding + hidden) + hidden * embedding)
    a_word += 3 * 2 * embedding * vocabulary
    padded = sum(batch.targets.numel() for batch in ready)
    print(
        f"\n{torch.cuda.get_device_name()}, {batch_tokens} tokens a batch; {peak / 1e12:.0f}e12/s"
    )
    for name, step in ways.items():
        seconds = timed(step, len(rows))
        words = sum(train.num_targets(some) for some in rows) / seconds
        share = padded * a_word / seconds / peak
        print(f"{name}: {words:,.0f} words/s, {100 * share:.2f} % of the card's matrix rate")


def timed(step: Callable[[int], object], num: int) -> float:
    """Seconds of some steps on the GPU, after as many to warm up."""
    for number in range(min(num, 20)):
        step(number)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for number in range(num):
        step(number)
    torch.cuda.synchronize()
    return time.perf_counter() - began
