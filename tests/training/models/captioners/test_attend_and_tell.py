"""What it sees of a grid, and how."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from intertitle.training.config.models import AttendAndTellConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.models.base import Sizes
from intertitle.training.models.build import build_model
from intertitle.training.models.captioners.attend_and_tell import AttendAndTell
from intertitle.training.search.beam import beam

DIM, CELLS = 5, 6


def make(**fields: Any) -> AttendAndTell:
    torch.manual_seed(0)
    sizes = {"embedding_size": 6, "hidden_size": 7, "attention_size": 4, "dropout": 0.0}
    config = AttendAndTellConfig(kind="attend_and_tell", **{**sizes, **fields})
    model = build_model(config, Sizes(vocabulary=11, feature_dim=DIM))
    assert isinstance(model, AttendAndTell)
    return model.eval()


def grids(num_frames: tuple[int, ...] = (1, 3, 2)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(2, 3, (t, CELLS, DIM)).astype(np.float32) for t in num_frames]


def batch() -> Batch:
    return make_batch([Row(grid, (), [4, 5, 6]) for grid in grids()], sentences=True)


@torch.no_grad()
def test_cells_and_the_mean_over_them_are_each_standardised_by_their_own_scale() -> None:
    model = make()
    examples = [torch.tensor(grid) for grid in grids((1,) * 40)]
    model.fit_normalizer(examples)
    cells = torch.cat(examples).flatten(0, 1)
    means = torch.stack([example.mean((0, 1)) for example in examples])
    for scale, features in ((model.scale_cells, cells), (model.standardize, means)):
        standard = scale(features)
        assert torch.allclose(standard.mean(0), torch.zeros(DIM), atol=1e-5)
        assert torch.allclose(standard.std(0, correction=0), torch.ones(DIM), atol=1e-5)


@torch.no_grad()
def test_each_row_looks_at_all_cells_of_its_own_frames() -> None:
    model = make()
    memory = model.start(batch()).memory
    assert memory.values.shape == (3, 3 * CELLS, DIM)
    assert (~memory.padding_mask).sum(1).tolist() == [CELLS, 3 * CELLS, 2 * CELLS]
    _, weights = model.attention(torch.randn(3, 2, 7), memory)
    assert torch.equal(weights > 0, ~memory.padding_mask[:, None].expand(-1, 2, -1))


@torch.no_grad()
def test_a_word_is_told_from_what_is_found_in_the_cells_beside_what_was_read() -> None:
    model = make()
    state, words = model.start(batch()), torch.tensor([4, 4, 4])
    values = torch.zeros_like(state.memory.values)
    blank = replace(state, memory=replace(state.memory, values=values))
    told, blind = (model.advance(s, words)[0] for s in (state, blank))
    assert torch.equal(told[:, :7], blind[:, :7])
    assert torch.equal(blind[:, 7:], model.from_cells.bias.expand(3, 4))
    assert (told[:, 7:] != blind[:, 7:]).all()


@torch.no_grad()
def test_training_hides_channels_of_a_whole_image() -> None:
    model = make(feature_dropout=0.5).train()
    hidden = model.start(batch()).memory.values == 0
    own = ~model.start(batch()).memory.padding_mask
    for row, counts in zip(hidden, own, strict=True):
        assert torch.equal(row[counts].any(0), row[counts].all(0))
    assert hidden.any()
    assert not torch.equal(hidden[1].any(0), hidden[2].any(0))


def test_beam_search_finds_the_same_beside_others_as_alone() -> None:
    model = make()
    for parameter in model.parameters():
        parameter.data.mul_(3)
    together = beam(model, batch(), 3, 6, 0.7)
    for grid, found in zip(grids(), together, strict=True):
        (alone,) = beam(model, make_batch([Row(grid)], sentences=True), 3, 6, 0.7)
        assert [h.token_ids for h in alone] == [h.token_ids for h in found]
