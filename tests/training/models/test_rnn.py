"""Recurrent stacks over padded sequences."""

import warnings
from collections.abc import Sequence
from typing import TypeVar, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from intertitle.training.config.models import CellKind
from intertitle.training.models.rnn import (
    BidirectionalRNN,
    RNNStack,
    RNNState,
    initialize,
    reverse_within,
)

CELLS: Sequence[CellKind] = get_args(CellKind)
M = TypeVar("M", bound=nn.Module)
LENGTHS = torch.tensor([5, 2, 6, 1, 5])

every_cell = pytest.mark.parametrize("cell", CELLS)
one_layer_or_two = pytest.mark.parametrize("num_layers", [1, 2])


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-6)


def same(one: RNNState, other: RNNState) -> bool:
    if one.c is None or other.c is None:
        return one.c is other.c and close(one.h, other.h)
    return close(one.h, other.h) and close(one.c, other.c)


def shaken(module: M) -> M:
    """With weights of which none is zero, biases least of all."""
    initialize(module, 0.8)
    return module.eval()


def make(cell: CellKind, num_layers: int) -> RNNStack:
    torch.manual_seed(0)
    return shaken(RNNStack(cell, 3, 4, num_layers))


def padded(value: float = 9.0) -> Tensor:
    """Rows of length LENGTHS, and beyond them what must not be seen, [5, 7, 3]."""
    inputs = torch.randn(len(LENGTHS), 7, 3, generator=torch.Generator().manual_seed(1))
    return inputs.masked_fill((torch.arange(7) >= LENGTHS[:, None])[..., None], value)


@every_cell
@one_layer_or_two
@torch.no_grad()
def test_a_row_is_read_to_its_own_end_as_if_alone(cell: CellKind, num_layers: int) -> None:
    stack, inputs = make(cell, num_layers), padded()
    ran, _ = stack(inputs)
    read, state = stack.read(inputs, LENGTHS)
    assert ran.shape == read.shape == (5, 7, 4)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, end = stack(inputs[row : row + 1, :length])
        assert close(ran[row, :length], alone[0])
        assert close(read[row, :length], alone[0])
        assert not read[row, length:].any()
        assert same(state.select(torch.tensor([row])), end)


@every_cell
@one_layer_or_two
@torch.no_grad()
@pytest.mark.parametrize("length", [3, 5, 7])
def test_reading_rows_of_one_length_is_running_over_them(
    cell: CellKind, num_layers: int, length: int
) -> None:
    stack, inputs = make(cell, num_layers), padded()
    outputs, state = stack.read(inputs, torch.full((5,), length))
    ran, end = stack(inputs[:, :length])
    assert close(outputs[:, :length], ran)
    assert not outputs[:, length:].any()
    if length == inputs.shape[1]:
        also, last = stack.read(inputs, torch.full((5,), length), padded=False)
        assert close(outputs, also) and same(state, last)
    assert same(state, end)


@every_cell
def test_no_sequence_is_packed(cell: CellKind, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> None:
        raise AssertionError("packed sequences need the lengths on the host")

    monkeypatch.setattr(nn.utils.rnn, "pack_padded_sequence", slow)
    make(cell, 1).read(padded(), LENGTHS)


@every_cell
def test_gradients_go_through_what_was_read_and_not_into_padding(cell: CellKind) -> None:
    stack, inputs = make(cell, 2), padded().requires_grad_()
    _, state = stack.read(inputs, LENGTHS)
    (state.h if state.c is None else state.h + state.c).sum().backward()
    assert inputs.grad is not None
    assert torch.equal(inputs.grad.any(-1), torch.arange(7) < LENGTHS[:, None])
    assert all(p.grad is not None and p.grad.any() for p in stack.parameters())


@every_cell
@one_layer_or_two
@torch.no_grad()
def test_a_sequence_in_two_parts_is_the_sequence(cell: CellKind, num_layers: int) -> None:
    stack, inputs = make(cell, num_layers), padded()
    whole, end = stack(inputs, stack.zero_state(5, inputs))
    first, between = stack(inputs[:, :2])
    second, last = stack(inputs[:, 2:], between)
    assert close(whole, torch.cat([first, second], 1))
    assert same(end, last)
    assert (end.c is None) == (cell != "lstm")


@every_cell
@one_layer_or_two
@torch.no_grad()
def test_a_stack_in_one_call_is_the_stack_layer_by_layer(cell: CellKind, num_layers: int) -> None:
    stack, inputs = make(cell, num_layers), padded()
    _, state = stack(inputs[:, :3])
    outputs, end = stack(inputs, state)
    by_layer, last = stack._run_layers(inputs, state)
    assert close(outputs, by_layer)
    assert same(end, last)


def test_a_state_is_kept_or_replaced_as_the_device_decides() -> None:
    state, other = (RNNState(torch.randn(2, 3, 4), torch.randn(2, 3, 4)) for _ in range(2))
    for condition, expected in ((torch.tensor(True), state), (torch.tensor(False), other)):
        assert same(state.where(condition, other), expected)
    assert not state.where(torch.tensor(False), None).h.any()


def test_select_takes_rows_in_any_order_and_more_than_once() -> None:
    state = RNNState(torch.randn(2, 3, 4), torch.randn(2, 3, 4))
    chosen = state.select(torch.tensor([2, 0, 2, 1]))
    for got, had in ((chosen.h, state.h), (chosen.c, state.c)):
        assert torch.equal(got, torch.stack([had[:, n] for n in (2, 0, 2, 1)], 1))


def test_a_state_goes_to_a_device_whole() -> None:
    h, c = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    device = torch.device("meta")
    there, without = RNNState(h, c).to(device), RNNState(h, None).to(device)
    assert there.c is not None and there.h.device == there.c.device == device
    assert without.h.device == device and without.c is None


@every_cell
def test_no_gradient_goes_behind_a_detached_state(cell: CellKind) -> None:
    stack, inputs = make(cell, 1), padded().requires_grad_()
    _, between = stack(inputs[:, :2])
    outputs, _ = stack(inputs[:, 2:], between.detach())
    outputs.sum().backward()
    assert inputs.grad is not None
    assert not inputs.grad[:, :2].any()
    assert inputs.grad[:, 2:].all()


@every_cell
@torch.no_grad()
def test_it_begins_with_orthogonal_recurrence_and_open_forget_gates(cell: CellKind) -> None:
    torch.manual_seed(0)
    for name, parameter in RNNStack(cell, 3, 4, num_layers=2).named_parameters():
        gates = parameter.split(4)  # of an LSTM: input, forget, cell, output
        if "weight_hh" in name:
            for gate in gates:
                assert torch.allclose(gate @ gate.T, torch.eye(4), atol=1e-5)
        elif "bias_ih" in name and cell == "lstm":
            assert [gate.unique().tolist() for gate in gates] == [[0], [1], [0], [0]]
        elif "bias" in name:
            assert not parameter.any()


@pytest.mark.parametrize("module", [RNNStack, BidirectionalRNN])
def test_dropout_acts_between_layers_in_training_alone(module: type[nn.Module]) -> None:
    torch.manual_seed(0)
    inputs, lengths = padded(), () if module is RNNStack else (LENGTHS,)
    for num_layers in (1, 2):
        network = module("lstm", 3, 4, num_layers, dropout=0.5)
        one, other = (network(inputs, *lengths)[0] for _ in range(2))
        assert torch.equal(one, other) == (num_layers == 1)
        network.eval()
        one, other = (network(inputs, *lengths)[0] for _ in range(2))
        assert torch.equal(one, other)


@every_cell
@torch.no_grad()
def test_dropout_acts_between_layers_that_read_rows_of_several_lengths(cell: CellKind) -> None:
    torch.manual_seed(0)
    stack, inputs = RNNStack(cell, 3, 4, 2, dropout=0.5), padded()
    lowest, highest = (
        torch.stack([stack.read(inputs, LENGTHS)[1].h[n] for _ in range(2)]) for n in (0, 1)
    )
    assert torch.equal(*lowest)
    assert not torch.equal(*highest)
    stack.eval()
    assert torch.equal(*(stack.read(inputs, LENGTHS)[0] for _ in range(2)))


@pytest.mark.parametrize("module", [RNNStack, BidirectionalRNN])
def test_there_is_one_layer_and_no_dropout_unless_they_are_asked_for(
    module: type[nn.Module],
) -> None:
    lengths = () if module is RNNStack else (LENGTHS,)
    with warnings.catch_warnings():
        # PyTorch warns of a dropout that has no two layers to act between.
        warnings.simplefilter("error")
        module("gru", 3, 4, dropout=0.5)
    names = [set(dict(m.named_parameters())) for m in (module("gru", 3, 4), module("gru", 3, 4, 1))]
    assert names[0] == names[1]
    network = module("gru", 3, 4, 2)
    assert torch.equal(*(network(padded(), *lengths)[0] for _ in range(2)))


def test_rows_are_reversed_within_their_lengths() -> None:
    rows = torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0], [1, 0, 0, 0], [5, 6, 7, 8]])
    lengths = torch.tensor([4, 2, 1, 0])
    turned = torch.tensor([[4, 3, 2, 1], [2, 1, 0, 0], [1, 0, 0, 0], [5, 6, 7, 8]])
    assert torch.equal(reverse_within(rows, lengths), turned)
    images = rows[..., None, None] * torch.ones(4, 4, 2, 3, dtype=torch.long)
    assert torch.equal(reverse_within(images, lengths)[:, :, 1, 2], turned)


@every_cell
@one_layer_or_two
@torch.no_grad()
def test_a_bidirectional_row_gives_the_same_alone_and_in_a_batch(
    cell: CellKind, num_layers: int
) -> None:
    torch.manual_seed(0)
    both, inputs = shaken(BidirectionalRNN(cell, 3, 4, num_layers)), padded()
    outputs, ends = both(inputs, LENGTHS)
    assert outputs.shape == (5, 7, both.output_size)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, end = both(inputs[row : row + 1, :length], LENGTHS[row : row + 1])
        assert close(outputs[row, :length], alone[0])
        assert not outputs[row, length:].any()
        assert close(ends[row], end[0])


@every_cell
@one_layer_or_two
def test_reading_both_ways_is_what_torch_does_of_packed_rows(
    cell: CellKind, num_layers: int
) -> None:
    torch.manual_seed(0)
    both, inputs = shaken(BidirectionalRNN(cell, 3, 4, num_layers)), padded()
    kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
    theirs = kind(3, 4, num_layers, batch_first=True, bidirectional=True)
    ours = {}
    for layer in range(num_layers):
        for way, suffix in ((both.forwards, ""), (both.backwards, "_reverse")):
            for name, parameter in way[layer].layers.named_parameters():
                ours[name.replace("l0", f"l{layer}{suffix}")] = parameter
    theirs.load_state_dict({name: parameter.detach() for name, parameter in ours.items()})

    packed = pack_padded_sequence(inputs, LENGTHS, batch_first=True, enforce_sorted=False)
    expected, state = theirs(packed)
    expected, _ = pad_packed_sequence(expected, batch_first=True, total_length=7)
    h = state[0] if cell == "lstm" else state
    outputs, ends = both(inputs, LENGTHS)
    assert close(outputs, expected)
    assert close(ends, torch.cat([h[-2], h[-1]], 1))

    for told in (outputs.square().sum() + ends.sum(), expected.square().sum() + h[-2:].sum()):
        told.backward()
    for name, parameter in theirs.named_parameters():
        assert torch.allclose(ours[name].grad, parameter.grad, atol=1e-4)


def test_every_parameter_is_drawn_anew_within_the_scale() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(50, 20), nn.Linear(20, 30))
    initialize(network, 0.08)
    for parameter in network.parameters():
        assert parameter.abs().max() <= 0.08
        assert parameter.max() > 0.06
        assert parameter.min() < -0.06
