"""Where a model looked when it told of something, as a picture."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.errors import UserError
from training.config import SearchConfig
from training.data.batch import Batch, Row, make_batch
from training.data.source import DEFAULT_READING, DataSource, Reading, frames_of, looks_of
from training.data.tokenizer import BOS_ID
from training.evaluation.finding import find
from training.evaluation.sample import Sample
from training.evaluation.search import Hypothesis
from training.models.generator import Generator
from training.prediction import ask
from training.predictions import Prediction
from training.questions import read
from training.tracking.attention_plot import attention_over_frames, attention_over_text
from training.trained import TrainedModel

_log = logging.getLogger(__name__)

END = "(end)"
# What of an example's id is not for the name of a file, and how much of the rest is.
_NOT_PLAIN, _NAME_LENGTH = re.compile(r"[^A-Za-z0-9.-]+"), 60


def explain(
    trained: TrainedModel,
    file: Path | None = None,
    text: str | None = None,
    reading: Reading = DEFAULT_READING,
) -> tuple[Prediction, Figure]:
    """Tell of one input, and draw where the model looked for each word and for the end.

    Args:
        trained: the model, or an ensemble, of which it is the mean.
        file: a video or an image, for a task that sees.
        text: for a task that reads.
        reading: how the file is read.

    Raises:
        UserError: as of `ask`, or a model without attention.
        FileError: the file can't be read.
    """
    asked = ask(trained, [] if file is None else [file], [] if text is None else [text], reading)
    for warning in asked.warnings:
        _log.warning(warning)
    if not _attends(trained):
        raise UserError(f"--explain: of no use to {trained.recipe.name}, which has no attention")
    batch = asked.questions.with_targets([(0, ())])
    seen = trained.data.features
    frames = frames_of(seen, file, reading) if seen and file else None
    best, figure = _tell_and_draw(trained, batch, 0, trained.recipe.search, frames)
    told = trained.vocabularies.target.decode(best.token_ids)
    return Prediction(asked.ids[0], 1, best.score, told), figure


def explain_samples(
    trained: TrainedModel,
    data: DataSource,
    search: SearchConfig,
    samples: Mapping[int, Sample],
    folder: Path,
) -> None:
    """Draw where a model looked for its answers to some examples, in a file each.

    A model without attention leaves none, nor does an item whose file can't be read.

    Args:
        trained: the model, or an ensemble.
        data: that the examples are of.
        search: by which the answers were found.
        samples: the answers, by the number of the example, which what is drawn at random hangs on.
        folder: for the files; there is one when there are any.
    """
    if not _attends(trained):
        return
    sees = trained.task.sees != "nothing"
    looks = looks_of(data, {str(one.item_key) for one in samples.values()}) if sees else {}
    for place, (number, sample) in enumerate(samples.items(), start=1):
        look = looks.get(str(sample.item_key))
        if sees and look is None:
            continue
        (source,) = read(trained, [sample.source or ""])[0] or [[]]
        features, frames = (look.features, look.frames) if look else (None, None)
        batch = make_batch([Row(features, source)], sentences=True)
        _, figure = _tell_and_draw(trained, batch, number, search, frames)
        folder.mkdir(parents=True, exist_ok=True)
        name = _NOT_PLAIN.sub("_", sample.id)[:_NAME_LENGTH]
        # Photographs are a tenth as large so, and nobody measures in them.
        save(figure, folder / f"{place}_{name}{'.jpg' if sees else '.png'}")


def save(figure: Figure, file: Path) -> None:
    """Write a picture in the form that the file's ending names."""
    with warnings.catch_warnings():
        # A letter that no font of this machine has is a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file)


def _tell_and_draw(
    trained: TrainedModel,
    batch: Batch,
    number: int,
    search: SearchConfig,
    frames: NDArray[np.uint8] | None,
) -> tuple[Hypothesis, Figure]:
    """What a model that has attention tells of one row, and where it looked for each word.

    Args:
        trained: the model.
        batch: the row.
        number: see `find`.
        search: how the sentence is found.
        frames: that it saw, [T, H, W, 3]; None if it reads.
    """
    model, vocabularies = trained.model, trained.vocabularies
    assert isinstance(model, Generator)
    batch = batch.to(next(model.parameters()).device)
    ((best,),) = find(model, batch, vocabularies.target, search, [number])
    weights = look_again(model, batch, best.token_ids)
    assert weights is not None
    names = vocabularies.target.tokens()
    words = [*(names[token] for token in best.token_ids), END]
    if frames is not None:
        places = weights.reshape(len(words), len(frames), -1)
        return best, attention_over_frames(frames, words, places)
    assert vocabularies.source is not None
    names = vocabularies.source.tokens()
    # A source without a token is one step of padding.
    source = [names[token] for token in batch.source[0].tolist()] or [""]
    return best, attention_over_text(source, words, weights)


def _attends(trained: TrainedModel) -> bool:
    """Whether a model looks back: found by showing it a frame, or a source, of nothing."""
    if not isinstance(trained.model, Generator):
        return False
    dim = trained.data.feature_dim
    shapes = {"nothing": None, "pooled": (1, dim), "grid": (1, 1, dim)}
    shape = shapes[trained.task.sees]
    row = Row(None if shape is None else np.zeros(shape, np.float32))
    device = next(trained.model.parameters()).device
    batch = make_batch([row], sentences=True).to(device)
    return look_again(trained.model, batch, ()) is not None


@torch.inference_mode()
def look_again(
    model: Generator[Any], batch: Batch, token_ids: list[int] | tuple[int, ...]
) -> NDArray[np.float32] | None:
    """Where a model looks when it tells a sentence and its end, [L + 1, S].

    Args:
        model: in evaluation mode.
        batch: of one row.
        token_ids: the L words.

    Returns:
        None of a model without attention.
    """
    state = model.start(batch)
    weights = []
    for word in (BOS_ID, *token_ids):
        _, state = model.step(state, torch.tensor([word], device=batch.targets.device))
        look = model.attended(state)
        if look is None:
            return None
        weights.append(look.weights[0])
    told: NDArray[np.float32] = torch.stack(weights).cpu().numpy()
    return told
