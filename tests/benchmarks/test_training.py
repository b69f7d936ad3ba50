"""Training `show_and_tell` against a bare `nn.LSTM` loop on the same batches, one worker.

The bare loop has its batches ready in memory; ours reads features, pads, averages weights and
counts as it goes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.corpus import Example, Item, write_corpus
from pipeline.fingerprint import Fingerprint
from pipeline.location import location
from pipeline.shards import ItemFeatures, write_shard
from pipeline.snapshot import ItemRecord, Snapshot, publish, table_of
from training.config import load_recipe
from training.data.batch import Batch
from training.data.dataset import Dataset, DataSource, describe_data
from training.data.sampler import BatchSampler
from training.data.tokenizer import PAD_ID, Tokenizer
from training.loop import Ranks, TrainingLoop

NUM_PHOTOGRAPHS, NUM_WORDS, DIM = 2000, 2500, 1280
STEPS, ROUNDS = 15, 6


def make_data(folder: Path) -> DataSource:
    """As many captions, as long and of as many words, as make the arithmetic that of Flickr8k."""
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
                for length in np.clip(rng.normal(10.8, 3.8, 5).round(), 3, 30).astype(int)
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
    publish(location(store), Snapshot(fingerprint, {shard.name: shard}, table_of(records)))
    return describe_data(corpus.path, store)


class Bare(nn.Module):
    """The same arithmetic, and nothing else."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.image = nn.Linear(DIM, embedding)
        self.words = nn.Embedding(vocabulary, embedding, padding_idx=PAD_ID)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.likeness = nn.Linear(hidden, embedding)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch: Batch) -> torch.Tensor:
        image = self.dropout(self.image(batch.features[:, 0]))[:, None]
        words = self.dropout(self.words(batch.inputs))
        outputs, _ = self.lstm(torch.cat([image, words], 1))
        counts = batch.targets != PAD_ID
        told = self.likeness(self.dropout(outputs[:, 1:][counts]))
        logits = nn.functional.linear(told, self.words.weight, self.bias)
        return cross_entropy(logits, batch.targets[counts], label_smoothing=0.1)


@pytest.mark.bench
def test_training_against_a_bare_lstm_loop(tmp_path: Path) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    recipe = load_recipe("show_and_tell")
    source = make_data(tmp_path)
    corpus_words = [" ".join(f"w{w}" for w in range(NUM_WORDS))]
    tokenizer = Tokenizer.captions(corpus_words, min_count=1)
    train, val = (Dataset(source, split, tokenizer, 30) for split in ("train", "val"))
    settings = recipe.training
    sampler = BatchSampler(train.lengths, settings.batch_tokens, settings.pool_batches, 0)
    rows = sampler.epoch(0)[: STEPS * ROUNDS]
    ready = [train.batch(some) for some in rows]

    loop = TrainingLoop(recipe, tokenizer, train, val, DIM, torch.device("cpu"), Ranks())
    loop.model.train()
    bare = Bare(len(tokenizer), recipe.model.embedding_size, recipe.model.hidden_size)
    optimizer = torch.optim.AdamW(bare.parameters(), lr=1e-3, fused=True)

    def ours(step: int) -> None:
        loop.train_step(rows[step], 0.5)

    def theirs(step: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = bare(ready[step])
        loss.backward()
        nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
        optimizer.step()
        loss.item()

    seconds = {ours: 0.0, theirs: 0.0}
    for part in range(ROUNDS):
        for step_of in (ours, theirs):
            for step in range(3):
                step_of(step)
            began = time.perf_counter()
            for step in range(part * STEPS, (part + 1) * STEPS):
                step_of(step)
            seconds[step_of] += time.perf_counter() - began
    words = sum(train.num_targets(some) for some in rows)
    fast, limit = words / seconds[ours], words / seconds[theirs]
    print(
        f"\ntraining show_and_tell: {fast:.0f} words/s, a bare nn.LSTM loop {limit:.0f}: "
        f"{fast / limit:.2f} x"
    )
