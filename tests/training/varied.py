"""Data of different lengths for the recipe of any task."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import Vocabs, build_vocabs
from intertitle.training.models.build import task_of
from tests.training.conftest import DIM, Shown, open_data_ref, small_recipe, write_features

WORDS = [f"w{n}" for n in range(40)]


def varied_recipe(name: str, *settings: str) -> Recipe:
    """A small recipe that `varied_data` fits."""
    small = ["search.max_tokens=5", "training.monitor=nats_per_token", "training.window=8"]
    if name.startswith("seq2seq"):
        small += ["tokenizer.kind=words", "source_tokenizer.kind=words"]
    if task_of(small_recipe(name).model).has_source:
        small += ["source_tokenizer.min_count=1", "source_tokenizer.max_tokens=6"]
    return small_recipe(name, *small, *settings)


def varied_data(folder: Path, recipe: Recipe, num: int = 60) -> tuple[DataRef, Vocabs]:
    """Items of one to five frames, texts of one to eight words; a fifth is for validation."""
    task, rng = task_of(recipe.model), np.random.default_rng(1)

    def text() -> str:
        return " ".join(WORDS[n] for n in rng.integers(40, size=rng.integers(1, 9)))

    shown, examples = [], []
    for n in range(num):
        split, num_frames = "train" if n % 5 else "val", int(rng.integers(1, 6))
        shape = (num_frames, 4, DIM) if task.visual_input == "grid" else (num_frames, DIM)
        targets: tuple[str, ...] = (text(),)
        if task.output == "label_per_frame":
            targets = tuple(WORDS[n] for n in rng.integers(4, size=num_frames))
        elif task.output == "label":
            targets = (WORDS[n % 4],)
        elif task.visual_input != "nothing" and not task.has_source:
            targets = tuple(text() for _ in range(int(rng.integers(1, 5))))
        has_item = task.visual_input != "nothing"
        if has_item:
            features = rng.normal(size=shape).astype(np.float32)
            shown.append(Shown(f"item {n}", split, features, targets))
        name = f"text:{n:09}" if task.output == "stream" else f"example {n}"
        key, source = f"item {n}" if has_item else None, text() if task.has_source else None
        examples.append(Example(name, split, key, source, targets))
    items = [Item(s.key, f"{s.key}.mp4", "video") for s in shown]
    write_corpus(folder / "corpus", items, examples)
    store = write_features(folder / "features", shown) if shown else None
    data = open_data_ref(folder / "corpus", store, task.visual_input)
    return data, build_vocabs(recipe, *texts_of(Corpus(data.corpus), "train", task))
