"""Attention maps: plot what a model attends to while it predicts."""

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

from intertitle.pipeline.errors import UserError
from intertitle.training.config.sections import SearchConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.data_ref import Data
from intertitle.training.data.item_views import (
    DEFAULT_READING,
    ItemView,
    Reading,
    frames_of,
    item_views,
)
from intertitle.training.data.tokenizer import BOS_ID
from intertitle.training.evaluation.answers import Answer, rank_labels
from intertitle.training.evaluation.sample import Sample
from intertitle.training.inference.attention_plot import attention_over_frames, attention_over_text
from intertitle.training.inference.inputs import build_inputs, read_queries
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.models.base import Generator, Model
from intertitle.training.search.generate import generate

_log = logging.getLogger(__name__)

END_MARK = "(end)"
# Characters of an example's id that a file name must not have, and its maximum length.
_NOT_PLAIN, _NAME_LENGTH = re.compile(r"[^A-Za-z0-9.-]+"), 60


def explain(
    trained: TrainedModel,
    file: Path | None = None,
    text: str | None = None,
    reading: Reading = DEFAULT_READING,
) -> tuple[Prediction, Figure]:
    """Predict one input and plot the attention weights of its prediction.

    A sentence has those of each token and of its end, a label those of each hop.

    Args:
        trained: model or ensemble; the weights of an ensemble are the mean over its members.
        file: video or image, for a task with visual input.
        text: source text, for a task that reads text.
        reading: options for decoding the file.

    Returns:
        The most probable prediction and the figure.

    Raises:
        UserError: the input is invalid (see `build_inputs`), or the model has no attention.
        FileError: the file can't be read.
    """
    inputs = build_inputs(
        trained, [] if file is None else [file], [] if text is None else [text], reading
    )
    for warning in inputs.warnings:
        _log.warning(warning)
    if not has_attention(trained):
        raise UserError(f"--explain: of no use to {trained.recipe.name}, which has no attention")
    batch = inputs.questions.with_targets([(0, ())])
    frames = frames_of(trained.data.features, file, reading) if file else None
    answer, figure = _predict_and_draw(trained, batch, 0, trained.recipe.search, frames)
    return Prediction(inputs.ids[0], 1, answer.score, answer.texts[0]), figure


def explain_samples(
    trained: TrainedModel,
    data: Data,
    search: SearchConfig,
    samples: Mapping[int, Sample],
    folder: Path,
) -> dict[str, ItemView]:
    """Plot the attention weights of a model's predictions for some examples, one file per example.

    No file is written for a model without attention or for an item whose file can't be read.

    Args:
        trained: model or ensemble.
        data: corpus and features that the examples belong to.
        search: search settings that the predictions were generated with.
        samples: predictions by the number of the example, which also determines random draws.
        folder: output folder, created when the first file is written.

    Returns:
        The items that were decoded, by key.
    """
    if not has_attention(trained):
        return {}
    visual = trained.task.visual_input != "nothing"
    views = (
        item_views(data, {str(answer.item_key) for answer in samples.values()}) if visual else {}
    )
    for position, (number, sample) in enumerate(samples.items(), start=1):
        view = views.get(str(sample.item_key))
        if visual and view is None:
            continue
        (source,) = read_queries(trained, [sample.source or ""])[0] or [[]]
        features, frames = (view.features, view.frames) if view else (None, None)
        sentences = isinstance(trained.model, Generator)
        batch = make_batch([Row(features, source)], sentences=sentences)
        _, figure = _predict_and_draw(trained, batch, number, search, frames)
        folder.mkdir(parents=True, exist_ok=True)
        name = _NOT_PLAIN.sub("_", sample.id)[:_NAME_LENGTH]
        # JPEG makes photographs a tenth as large, and their exact pixel values do not matter.
        save(figure, folder / f"{position}_{name}{'.jpg' if visual else '.png'}")
    return views


def save(figure: Figure, file: Path) -> None:
    """Write a figure in the format that the suffix of the file names."""
    with warnings.catch_warnings():
        # A character that no installed font has is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file)


def _predict_and_draw(
    trained: TrainedModel,
    batch: Batch,
    number: int,
    search: SearchConfig,
    frames: NDArray[np.uint8] | None,
) -> tuple[Answer, Figure]:
    """Predict one row and plot the attention weights of each token or hop.

    Args:
        trained: model with attention.
        batch: batch of one row.
        number: number of the row, see `generate`.
        search: search settings.
        frames: input frames, uint8, [T, H, W, 3]; None for a model that reads text.
    """
    model, vocabularies = trained.model, trained.vocabularies
    batch = batch.to(next(model.parameters()).device)
    if isinstance(model, Generator):
        ((hypothesis,),) = generate(model, batch, vocabularies.target, search, [number])
        answer = Answer((vocabularies.target.decode(hypothesis.token_ids),), hypothesis.score)
        weights = replay_attention(model, batch, hypothesis.token_ids)
        names = vocabularies.target.tokens()
        labels = [*(names[token] for token in hypothesis.token_ids), END_MARK]
    else:
        ((answer,),) = rank_labels(model, batch, vocabularies.target, 1)
        weights = hop_attention(model, batch)
        assert weights is not None
        labels = name_hops(len(weights), answer.texts[0])
    assert weights is not None
    if frames is not None:
        cell_weights = weights.reshape(len(labels), len(frames), -1)
        return answer, attention_over_frames(frames, labels, cell_weights)
    assert vocabularies.source is not None
    names = vocabularies.source.tokens()
    # A source without tokens is a single step of padding.
    source = [names[token] for token in batch.source[0].tolist()] or [""]
    return answer, attention_over_text(source, labels, weights)


def has_attention(trained: TrainedModel) -> bool:
    """Return whether a model has attention, by running it on an empty frame or source."""
    model = trained.model
    dim = trained.data.feature_dim
    shapes = {"nothing": None, "pooled": (1, dim), "grid": (1, 1, dim)}
    shape = shapes[trained.task.visual_input]
    row = Row(None if shape is None else np.zeros(shape, np.float32))
    device = next(model.parameters()).device
    if isinstance(model, Generator):
        batch = make_batch([row], sentences=True).to(device)
        return replay_attention(model, batch, ()) is not None
    return hop_attention(model, make_batch([row], sentences=False).to(device)) is not None


def name_hops(num: int, answer: str) -> list[str]:
    """Return the names of the hops of a model that predicts a label; the last has the label."""
    return [f"hop {hop}" if hop < num else f"hop {hop}: {answer}" for hop in range(1, num + 1)]


@torch.inference_mode()
def hop_attention(model: Model, batch: Batch) -> NDArray[np.float32] | None:
    """Compute the attention weights by which a label is predicted.

    Args:
        model: model in evaluation mode.
        batch: batch of one row.

    Returns:
        Attention weights, float32, [hops, S]; None if the model has no attention.
    """
    weights = model.attention_hops(batch)
    if weights is None:
        return None
    row: NDArray[np.float32] = weights[0].float().cpu().numpy()
    return row


@torch.inference_mode()
def replay_attention(
    model: Generator[Any], batch: Batch, token_ids: list[int] | tuple[int, ...]
) -> NDArray[np.float32] | None:
    """Compute the attention weights for a given sentence and its end of sentence.

    Args:
        model: generator in evaluation mode.
        batch: batch of one row.
        token_ids: L tokens of the sentence.

    Returns:
        Attention weights, float32, [L + 1, S]; None if the model has no attention.
    """
    state = model.start(batch)
    weights = []
    for token_id in (BOS_ID, *token_ids):
        _, state = model.step(state, torch.tensor([token_id], device=batch.targets.device))
        attention = model.attention_weights(state)
        if attention is None:
            return None
        weights.append(attention.weights[0])
    stacked: NDArray[np.float32] = torch.stack(weights).cpu().numpy()
    return stacked
