"""What it sees of a film, and when."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from intertitle.training.config.models import AttendVideoConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.models.base import Sizes
from intertitle.training.models.build import build_model
from intertitle.training.models.captioners.attend_video import AttendVideo

DIM = 5


def make(**fields: Any) -> AttendVideo:
    torch.manual_seed(0)
    sizes = {"embedding_size": 6, "hidden_size": 7, "attention_size": 4, "dropout": 0.0}
    config = AttendVideoConfig(kind="attend_video", **{**sizes, **fields})
    model = build_model(config, Sizes(vocabulary=11, feature_dim=DIM))
    assert isinstance(model, AttendVideo)
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model.eval()


def batch() -> Batch:
    rng = np.random.default_rng(0)
    films = [rng.normal(2, 3, (num, DIM)).astype(np.float32) for num in (1, 3, 2)]
    return make_batch([Row(film, (), [4, 5, 6]) for film in films], sentences=True)


@torch.no_grad()
def test_a_row_attends_to_its_own_frames_by_additive_scores() -> None:
    model, words = make(num_layers=2), torch.tensor([4, 5, 6])
    state = model.start(batch())
    assert model.attention_weights(state) is None
    _, state = model.advance(state, words)
    _, after = model.advance(state, words)
    attention = model.attention_weights(after)
    assert attention is not None
    assert torch.equal(attention.weights > 0, ~attention.padding_mask)
    # v tanh(W h + U f + b), with the upper layer's state before the word as h.
    layer = model.attention
    frames = model.project_features(batch().features[1])
    hidden = torch.tanh(layer.of_query(state.reading.h[-1][1]) + layer.of_memory(frames))
    expected = layer.to_score(hidden).squeeze(1).softmax(0)
    assert torch.allclose(attention.weights[1], expected, atol=1e-6)


@torch.no_grad()
def test_what_was_attended_to_is_remembered() -> None:
    model, words = make(), torch.tensor([4, 4, 4])
    state = model.start(batch())
    blank = replace(state.memory, values=torch.zeros_like(state.memory.values))
    seen, unseen = (model.advance(s, words)[1] for s in (state, replace(state, memory=blank)))
    assert (seen.reading.h != unseen.reading.h).all()
    # The next word hangs on it, too, even if nothing is seen any more.
    now, then = (model.advance(replace(s, memory=blank), words)[0] for s in (seen, unseen))
    assert (now[:, :7] != then[:, :7]).all()
