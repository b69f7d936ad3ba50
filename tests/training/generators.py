"""A small model of each recipe that writes, and something to ask it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from intertitle.training.config.recipe import recipe_names
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.tokenizer import BOS_ID
from intertitle.training.models.base import Generator, Sizes
from intertitle.training.models.build import build_model, task_of
from tests.training.conftest import small_recipe

DIM, NUM_CELLS, VOCABULARY, SOURCE_VOCABULARY = 5, 3, 11, 9
NUM_FRAMES = (3, 1, 4, 2, 2, 3)
SOURCES = ([4, 5, 4, 8], [6], [], [7, 8], [8, 8, 7, 6, 5], [4])
WRITING = [
    name
    for name in recipe_names()
    if task_of(small_recipe(name).model).output in ("sentence", "stream")
]
# Those that look back, of both kinds of memory.
ATTENDING = ["attend_and_tell", "attend_video", "seq2seq_attention"]


def make_generator(recipe: str, vocabulary: int = VOCABULARY) -> Generator[Any]:
    """Weights far from what says the same of everything, and ends neither at once nor never."""
    torch.manual_seed(0)
    model = build_model(small_recipe(recipe).model, Sizes(vocabulary, SOURCE_VOCABULARY, DIM))
    assert isinstance(model, Generator)
    for parameter in model.parameters():
        parameter.data.mul_(4)
    return model.eval()


def rows_for(model: Generator[Any]) -> list[Row]:
    """Six things to tell of."""
    rng = np.random.default_rng(0)
    shape = {"pooled": (DIM,), "grid": (NUM_CELLS, DIM), "nothing": ()}[model.task.visual_input]
    return [
        Row(
            rng.normal(0, 2, (frames, *shape)).astype(np.float32) if shape else None,
            source if model.task.has_source else (),
        )
        for frames, source in zip(NUM_FRAMES, SOURCES, strict=True)
    ]


def batch_of(rows: list[Row]) -> Batch:
    return make_batch(rows, sentences=True)


@torch.no_grad()
def told_by_steps(
    model: Generator[Any], row: Row, token_ids: tuple[int, ...]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Before each word and before the end: log-probabilities [V], and where it looked [S]."""
    state, told, looks = model.start(batch_of([row])), [], []
    for word in (BOS_ID, *token_ids):
        log_probs, state = model.step(state, torch.tensor([word]))
        told.append(log_probs[0])
        look = model.attention_weights(state)
        if look is not None:
            looks.append(look.weights[0])
    return told, looks
