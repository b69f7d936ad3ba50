"""LSTM stacks over padded sequences."""

import pytest
import torch

from training.models.cells import LSTM, LSTMState


@pytest.fixture
def lstm() -> LSTM:
    torch.manual_seed(0)
    return LSTM(3, 4).eval()


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-6)


@torch.no_grad()
def test_a_row_ends_where_its_own_length_says(lstm: LSTM) -> None:
    inputs, lengths = torch.randn(3, 5, 3), torch.tensor([5, 2, 1])
    outputs, state = lstm.read(inputs, lengths)
    assert outputs.shape == (3, 5, 4)
    for row, length in enumerate(lengths.tolist()):
        alone, end = lstm(inputs[row : row + 1, :length])
        assert close(outputs[row, :length], alone[0])
        assert close(state.h[:, row], end.h[:, 0])
        assert close(state.c[:, row], end.c[:, 0])


@torch.no_grad()
def test_a_sequence_in_two_parts_is_the_sequence(lstm: LSTM) -> None:
    inputs = torch.randn(2, 6, 3)
    whole, end = lstm(inputs)
    first, between = lstm(inputs[:, :2])
    second, last = lstm(inputs[:, 2:], between)
    assert close(whole, torch.cat([first, second], 1))
    assert close(end.h, last.h)
    assert close(end.c, last.c)


def test_select_takes_rows_in_any_order_and_more_than_once() -> None:
    state = LSTMState(torch.randn(2, 3, 4), torch.randn(2, 3, 4))
    chosen = state.select(torch.tensor([2, 0, 2, 1]))
    for got, had in ((chosen.h, state.h), (chosen.c, state.c)):
        assert torch.equal(got, torch.stack([had[:, n] for n in (2, 0, 2, 1)], 1))


@torch.no_grad()
def test_it_begins_with_open_forget_gates_and_orthogonal_recurrence(lstm: LSTM) -> None:
    for name, parameter in lstm.lstm.named_parameters():
        gates = parameter.chunk(4)  # input, forget, cell, output
        if name.startswith("weight_hh"):
            for gate in gates:
                assert torch.allclose(gate @ gate.T, torch.eye(4), atol=1e-5)
        elif name.startswith("bias_ih"):
            assert [gate.unique().tolist() for gate in gates] == [[0], [1], [0], [0]]
        elif name.startswith("bias_hh"):
            assert not parameter.any()
