"""Where a model looked when it told of something, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.errors import UserError
from training.data.batch import Batch
from training.data.source import frames_of
from training.data.tokenizer import BOS_ID
from training.evaluation.finding import find
from training.models.generator import Generator
from training.prediction import ask
from training.predictions import Prediction
from training.tracking.attention_plot import attention_over_frames, attention_over_text
from training.trained import TrainedModel

END = "(end)"


def explain(
    trained: TrainedModel, file: Path | None = None, text: str | None = None
) -> tuple[Prediction, Figure]:
    """Tell of one input, and draw where the model looked for each word and for the end.

    Args:
        trained: the model, or an ensemble, of which it is the mean.
        file: a video or an image, for a task that sees.
        text: for a task that reads.

    Raises:
        UserError: as of `ask`, or a model without attention.
    """
    asked = ask(trained, [] if file is None else [file], [] if text is None else [text])
    batch = asked.questions.with_targets([(0, ())])
    tokenizer = trained.vocabularies.target
    model = trained.model
    weights = look_again(model, batch, []) if isinstance(model, Generator) else None
    if weights is None:
        raise UserError(f"--explain: of no use to {trained.recipe.name}, which has no attention")
    assert isinstance(model, Generator)
    ((best,),) = find(model, batch, tokenizer, trained.recipe.search, [0])
    weights = look_again(model, batch, best.token_ids)
    assert weights is not None
    names = tokenizer.tokens()
    words = [*(names[token] for token in best.token_ids), END]
    told = Prediction(asked.ids[0], 1, best.score, tokenizer.decode(best.token_ids))
    if file is None:
        source = trained.vocabularies.source
        assert source is not None
        read = [source.tokens()[token] for token in batch.source[0].tolist()]
        # A source without a token is one step of padding.
        return told, attention_over_text(read or [""], words, weights)
    seen = trained.data.features
    assert seen is not None
    places = weights.reshape(len(words), int(batch.num_frames[0]), -1)
    return told, attention_over_frames(frames_of(seen, file), words, places)


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
