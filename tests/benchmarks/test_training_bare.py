"""Training on a CPU against a bare loop of the same products, in alternating rounds of one run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from intertitle.pipeline.corpus import Example, write_corpus
from intertitle.training.config.recipe import load_recipe
from intertitle.training.data.data_ref import Data, DataRef
from intertitle.training.data.dataset import make_sampler, open_dataset
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models.build import sizes_of, task_of
from intertitle.training.trainer.distributed import Ranks
from intertitle.training.trainer.loop import TrainingLoop
from tests.benchmarks.bare import Bare, BareTranslation, bare_step
from tests.benchmarks.test_training import NUM_WORDS, make_data
from tests.training.conftest import open_data_ref

STEPS, ROUNDS, LEAST = 6, 16, 0.97


def write_pairs(folder: Path) -> DataRef:
    """Sentences of the lengths of Multi30k's."""
    rng = np.random.default_rng(0)

    def text() -> str:
        length = int(np.clip(rng.gamma(9, 1.5), 3, 40))
        return " ".join(f"w{n}" for n in rng.integers(NUM_WORDS, size=length))

    splits = ["train"] * 3000 + ["val"] * 8
    examples = [Example(f"{n}", split, None, text(), (text(),)) for n, split in enumerate(splits)]
    return open_data_ref(write_corpus(folder / "corpus", [], examples).path, None, "nothing")


@pytest.mark.bench
@pytest.mark.parametrize("name", ["show_and_tell", "seq2seq_attention"])
def test_training_against_a_bare_loop(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    recipe = load_recipe(name)
    target = Tokenizer.captions([" ".join(f"w{w}" for w in range(NUM_WORDS))], min_count=1)
    words = Vocabs(target, target if name == "seq2seq_attention" else None)
    data = write_pairs(tmp_path) if name == "seq2seq_attention" else make_data(tmp_path)
    task = task_of(recipe.model)
    train, val = (
        open_dataset(Data(data), split, recipe, task, words) for split in ("train", "val")
    )
    cpu = torch.device("cpu")
    loop = TrainingLoop(recipe, words, train, val, sizes_of(words, data), cpu, Ranks())
    loop.model.train()
    rows = make_sampler(train, recipe.training).epoch(0)[: STEPS * ROUNDS]
    sizes = (len(target), recipe.model.embedding_size, recipe.model.hidden_size)
    bare = BareTranslation(*sizes) if name == "seq2seq_attention" else Bare(*sizes, "whole")
    theirs = bare_step(bare, [train.batch(some) for some in rows])  # type: ignore[arg-type]
    ways: dict[str, Callable[[int], object]] = {
        "ours": lambda step: loop.train_step(rows[step], 0.5),
        "bare": theirs,
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for step in range(4):
        for run in ways.values():
            run(step)
    for part in range(len(rows) // STEPS):
        for way in sorted(ways, reverse=part % 2 == 0):
            began = time.perf_counter()
            for step in range(part * STEPS, (part + 1) * STEPS):
                ways[way](step)
            seconds[way].append(time.perf_counter() - began)
    ratios = np.array(seconds["bare"]) / np.array(seconds["ours"])
    whole = sum(seconds["bare"]) / sum(seconds["ours"])
    print(f"\n{name}: {whole:.3f} of the bare loop, median of rounds {np.median(ratios):.3f}")
    print(f"load average {os.getloadavg()[0]:.1f}")
    assert np.median(ratios) >= LEAST
