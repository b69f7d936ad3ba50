"""Models that are taught for a minute to write drawn sentences, of the length of Flickr8k's.

A search is as long as its sentences, and an untrained model ends them at once or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intertitle.pipeline.corpus import Example, write_corpus
from intertitle.training.config.recipe import Recipe, load_recipe
from intertitle.training.data.batch import Batch
from intertitle.training.data.data_ref import Data, DataRef
from intertitle.training.data.dataset import Dataset, make_sampler, open_dataset
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models.build import sizes_of, task_of
from intertitle.training.search.beam import Hypothesis, beam
from intertitle.training.trainer.distributed import Ranks
from intertitle.training.trainer.loop import TrainingLoop
from tests.benchmarks.test_metrics import write_captions
from tests.training.conftest import Shown, open_data_ref, questions, write_data

STEPS = 100
# As many words as real data has, most of which are never said; the size of an image's features.
NUM_WORDS, DIM, CELLS = 3000, 1280, 81


@dataclass(frozen=True)
class Taught:
    """A model that ends its sentences, and what to ask it about."""

    recipe: Recipe
    model: Any
    words: Vocabs
    val: Dataset

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def batch(self, examples: Sequence[int] | range) -> Batch:
        """The longest first, as JoeyNMT wants them, where the model is."""
        rows = sorted(examples, key=self.val.question_length, reverse=True)
        return questions(self.val, rows).to(self.device)

    def search(self, batch: Batch, beam_size: int) -> list[list[Hypothesis]]:
        """As `evaluate` searches."""
        wanted = self.recipe.search
        return beam(
            self.model,
            batch,
            beam_size,
            wanted.max_tokens,
            wanted.length_penalty,
            num=1,
            patience=wanted.patience,
        )


def teach(name: str, folder: Path, num: int) -> Taught:
    """Teach a recipe's model to tell of `num` things, which it is then asked about.

    On a GPU where there is one.
    """
    recipe = load_recipe(name)
    texts = write_captions()[1][:num]
    known = [*(t for group in texts for t in group), *(f"w{n}" for n in range(NUM_WORDS))]
    target = Tokenizer.captions(known, min_count=1)
    if recipe.model.kind == "seq2seq":
        words, data = Vocabs(target, target), _write_pairs(folder, texts)
    else:
        as_grid = recipe.model.kind == "attend_and_tell"
        words, data = Vocabs(target), _write_photographs(folder, texts, target, as_grid)
    task = task_of(recipe.model)
    train, val = (
        open_dataset(Data(data), split, recipe, task, words) for split in ("train", "val")
    )
    assert isinstance(val, Dataset)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loop = TrainingLoop(recipe, words, train, val, sizes_of(words, data), device, Ranks())
    loop.model.train()
    for rows in islice(cycle(make_sampler(train, recipe.training).epoch(0)), STEPS):
        loop.train_step(rows, recipe.training.epochs / 4)
    return Taught(recipe, loop.model.eval(), words, val)


def _write_pairs(folder: Path, texts: list[list[str]]) -> DataRef:
    """Sentences, to be written from their words in the other order."""
    examples = [
        Example(f"{split}-{n}", split, None, " ".join(reversed(text.split())), (text,))
        for split in ("train", "val")
        for n, (text, *_) in enumerate(texts)
    ]
    return open_data_ref(write_corpus(folder / "corpus", [], examples).path, None, "nothing")


def _write_photographs(
    folder: Path, texts: list[list[str]], words: Tokenizer, as_grid: bool
) -> DataRef:
    """What is said of photographs, whose features are a projection of the words of it."""
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(len(words), DIM))
    shape = (1, CELLS, DIM) if as_grid else (1, DIM)
    shown = []
    for n, group in enumerate(texts):
        said = looks[words.encode(" ".join(group))].mean(0)
        features = (said + rng.normal(scale=0.1, size=shape)).astype(np.float32)
        shown += [Shown(f"{s}-{n}", s, features, tuple(group)) for s in ("train", "val")]
    return write_data(folder, shown)
