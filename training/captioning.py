"""Sentences for files that no corpus holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from training.checkpoint import TrainedModel
from training.data.batch import make_batch
from training.data.dataset import feature_maker
from training.evaluation.search import beam


@dataclass(frozen=True, slots=True)
class Caption:
    """What a model says of a file; `score` is the search's, see `Hypothesis.score`."""

    file: Path
    text: str
    score: float


def caption_files(
    trained: TrainedModel,
    files: Sequence[Path],
    beam_size: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Caption]:
    """Say what files show.

    Args:
        trained: the model.
        files: videos and images.
        beam_size: K; None is as in the model's recipe.
        on_progress: told how many are done, of how many.

    Raises:
        UserError: a file can't be decoded, or is of no known kind.
    """
    search = trained.recipe.search
    make_features = feature_maker(trained.data)
    captions: list[Caption] = []
    for file in files:
        batch = make_batch([make_features(file)], [()])
        with torch.inference_mode():
            found = beam(
                trained.model,
                batch,
                beam_size or search.beam_size,
                search.max_words,
                search.length_penalty,
            )[0][0]
        captions.append(Caption(file, trained.tokenizer.decode(found.token_ids), found.score))
        on_progress(len(captions), len(files))
    return captions
