"""How far gradients reach back through time."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from intertitle.training.config.models import CellKind
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID
from intertitle.training.inference.gradient_flow import (
    WINDOW,
    compare_cells,
    compare_on_text,
    gradient_flow,
)
from intertitle.training.models.language_model import LanguageModel
from intertitle.training.models.rnn import RNNStack, initialize


def test_it_is_the_derivative_written_out_by_hand() -> None:
    torch.manual_seed(0)
    stack, inputs = RNNStack("rnn", 2, 3), torch.randn(2, 4, 2)
    w = dict(stack.layers.named_parameters())
    direction = torch.randn(3)
    outputs, _ = stack(inputs)
    # d h_t / d h_{t-1} = diag(1 - h_t ** 2) W (Pascanu et al. 2013), from the right.
    norms = np.zeros(4)
    for row in outputs.detach():
        gradient = direction
        for distance in range(4):
            norms[distance] += gradient.norm().item() / 2
            gradient = (gradient * (1 - row[3 - distance] ** 2)) @ w["weight_hh_l0"].detach()
    flow = gradient_flow(stack, inputs, lambda h: h @ direction)
    assert flow.dtype == np.float64
    assert np.allclose(flow, norms, rtol=1e-5)
    assert all(parameter.grad is None for parameter in stack.parameters())


@pytest.mark.parametrize("cell", get_args(CellKind))
@pytest.mark.parametrize("num_layers", [1, 2])
@torch.no_grad()
def test_it_is_how_the_loss_moves_as_the_top_layer_does(cell: CellKind, num_layers: int) -> None:
    torch.manual_seed(0)
    stack = RNNStack(cell, 2, 3, num_layers).double()
    inputs = torch.randn(1, 4, 2, dtype=torch.float64)

    def told(h: Tensor) -> Tensor:
        return h.square().sum(-1)

    flow = gradient_flow(stack, inputs, told)
    for distance in (1, 2, 3):
        _, state = stack(inputs[:, : 4 - distance])
        slopes = []
        for unit in range(3):
            sides = []
            for step in (1e-5, -1e-5):
                h = state.h.clone()
                h[-1, 0, unit] += step
                outputs, _ = stack(inputs[:, 4 - distance :], type(state)(h, state.c))
                sides.append(told(outputs[:, -1]).item())
            slopes.append((sides[0] - sides[1]) / 2e-5)
        assert np.isclose(flow[distance], np.linalg.norm(slopes), rtol=1e-6)


def test_an_lstm_reaches_further_than_plain_units() -> None:
    inputs = torch.randn(4, 31, 8, generator=torch.Generator().manual_seed(0))
    reach = {}
    for cell in get_args(CellKind):
        torch.manual_seed(0)
        stack = RNNStack(cell, 8, 64)
        initialize(stack, 0.08)
        reach[cell] = gradient_flow(stack, inputs, lambda h: h.sum(-1))
    # The spectral radius of such a matrix is near 0.08 * (64 / 3) ** 0.5 = 0.37, and that is what a
    # step back leaves in plain units; a forget gate leaves a half. (Wider ones are another matter:
    # the radius of 512 units is 1.05.)
    assert reach["lstm"][30] > 1e3 * reach["rnn"][30]
    assert reach["gru"][30] > 1e3 * reach["rnn"][30]
    assert reach["rnn"][30] > 0


@pytest.mark.parametrize("num_layers", [1, 2])
def test_untrained_cells_are_plotted_next_to_the_trained_model(num_layers: int) -> None:
    torch.manual_seed(0)
    inputs, direction = torch.randn(2, 21, 5), torch.randn(16)
    stack = RNNStack("gru", 5, 16, num_layers)
    before = torch.get_rng_state()
    flows, again, others = (
        compare_cells(stack, inputs, lambda h: h @ direction, seed) for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert list(flows) == ["gru, trained", "rnn, fresh", "gru, fresh", "lstm, fresh"]
    assert all(np.array_equal(flow, again[name]) for name, flow in flows.items())
    assert np.array_equal(
        flows["gru, trained"], gradient_flow(stack, inputs, lambda h: h @ direction)
    )
    assert not np.allclose(flows["gru, fresh"], flows["gru, trained"])
    assert not np.allclose(flows["gru, fresh"], others["gru, fresh"])
    torch.manual_seed(3)
    fresh = RNNStack("lstm", 5, 16, num_layers)
    assert np.array_equal(
        flows["lstm, fresh"], gradient_flow(fresh, inputs, lambda h: h @ direction)
    )


def small_language_model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(
        11,
        cell="lstm",
        num_layers=1,
        embedding_size=5,
        hidden_size=7,
        dropout=0.5,
        embedding_dropout=0.0,
        tied=True,
        initial_scale=None,
    ).eval()


def test_a_language_model_is_looked_at_over_whole_windows_of_a_text() -> None:
    model = small_language_model()
    rng = np.random.default_rng(0)
    lines = [rng.integers(4, 11, 9).tolist() for _ in range(16)]
    flows = compare_on_text(model, lines, seed=0)
    assert len(flows) == 4
    # Two windows and a half: what a last token's own step is worth, worked out here by hand.
    tokens = [token for line in lines for token in (*line, EOS_ID)]
    read = torch.tensor([BOS_ID, *tokens[: 2 * WINDOW - 1]])
    read[read == EOS_ID] = BOS_ID
    hidden, _ = model.stack(model.words(read.view(2, WINDOW)))
    last = hidden[:, -1].detach().requires_grad_()
    targets = torch.tensor([tokens[WINDOW - 1], tokens[2 * WINDOW - 1]])
    loss = cross_entropy(model.logits(last), targets, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, last)
    assert flows["lstm, trained"].shape == (WINDOW,)
    assert flows["lstm, trained"][0] == pytest.approx(gradient.norm(dim=1).mean().item(), rel=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_text_shorter_than_a_window_shows_nothing() -> None:
    assert compare_on_text(small_language_model(), [[4] * (WINDOW - 2)], seed=0) == {}
