"""Stacks of recurrent cells over padded sequences, with one interface for every kind of cell.

Padding is at the end of a sequence, where no valid step follows it. The fused kernel therefore runs
over all steps at once, and the outputs of a row do not depend on the other rows of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from intertitle.training.config.models import CellKind
from intertitle.training.models.layers import Dropout

# Added to the input of a gate to keep it closed: its sigmoid is 0, and so is its gradient.
_CLOSED_GATE = -1e4

# The functions behind these modules, which take the weights as an argument.
_FUNCTIONS: dict[CellKind, Callable[..., Any]] = {
    "rnn": torch.rnn_tanh,
    "gru": torch.gru,
    "lstm": torch.lstm,
}
_FUSED: dict[CellKind, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {
    "rnn": nn.RNN,
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}


@dataclass(frozen=True, slots=True)
class RNNState:
    """The state of a stack between two steps.

    Attributes:
        h: hidden states, [layers, B, H].
        c: cell states, [layers, B, H]; None unless the cell is an LSTM.
    """

    h: Tensor
    c: Tensor | None

    def select(self, rows: Tensor) -> RNNState:
        """Return the states of the given rows, in that order; `rows` are indices into B, [N]."""
        c = None if self.c is None else self.c.index_select(1, rows)
        return RNNState(self.h.index_select(1, rows), c)

    def where(self, condition: Tensor, alternative: RNNState | None) -> RNNState:
        """Return this state if the condition, bool, [], is true; else the alternative, or zeros."""
        h = torch.where(condition, self.h, 0.0 if alternative is None else alternative.h)
        if self.c is None:
            return RNNState(h, None)
        alternative_c = 0.0 if alternative is None or alternative.c is None else alternative.c
        return RNNState(h, torch.where(condition, self.c, alternative_c))

    def detach(self) -> RNNState:
        """Return the same states, detached from the graph."""
        return RNNState(self.h.detach(), None if self.c is None else self.c.detach())

    def to(self, device: torch.device) -> RNNState:
        """Return the same state on a device."""
        return RNNState(self.h.to(device), None if self.c is None else self.c.to(device))


class RNNStack(nn.Module):
    """A stack of recurrent layers of one kind of cell.

    The cells are tanh units (Elman 1990), GRUs (Cho et al. 2014) or LSTMs (Hochreiter & Schmidhuber
    1997, with the forget gates of Gers et al. 2000).

    The recurrent weights of each gate are initialized orthogonally (Saxe et al. 2014), and the bias
    of an LSTM's forget gates to 1 (Jozefowicz et al. 2015), which keeps the gates open: gradients
    reach far back from the first training step on.

    Args:
        cell: kind of the cells.
        input_size: I, input size of the lowest layer.
        hidden_size: H, size of every layer.
        num_layers: number of layers; each one reads the outputs of the layer below it.
        dropout: dropout probability between the layers.
    """

    def __init__(
        self,
        cell: CellKind,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        # PyTorch warns if a single layer gets a dropout between layers.
        layer_dropout = dropout if num_layers > 1 else 0.0
        self.layers = _FUSED[cell](
            input_size, hidden_size, num_layers, batch_first=True, dropout=layer_dropout
        )
        for name, parameter in self.layers.named_parameters():
            if name.startswith("weight_hh"):
                for gate in parameter.detach().view(-1, hidden_size, parameter.shape[1]):
                    nn.init.orthogonal_(gate)
            elif name.startswith("weight_ih"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
            if isinstance(self.layers, nn.LSTM) and name.startswith("bias_ih"):
                nn.init.ones_(parameter.detach()[hidden_size : 2 * hidden_size])

    def forward(self, inputs: Tensor, state: RNNState | None = None) -> tuple[Tensor, RNNState]:
        """Run over padded sequences.

        Args:
            inputs: [B, T, I].
            state: state before the first step; None starts from zeros.

        Returns:
            The outputs, [B, T, H], and the state after step T.
        """
        state = state or self.zero_state(len(inputs), inputs)
        if inputs.device.type != "cpu" and self.training and self.layers.dropout:
            return self._run_layers(inputs, state)
        weights = [weight for layer in self.layers.all_weights for weight in layer]
        return self._run(inputs, state, weights, self.num_layers, self.layers.dropout)

    def _run_layers(self, inputs: Tensor, state: RNNState) -> tuple[Tensor, RNNState]:
        """Same as `forward`, with one call per layer and PyTorch's dropout between the layers.

        cuDNN's dropout reads its seed from the device after each `torch.manual_seed`, which waits.
        """
        outputs, h, c = inputs, [], []
        for layer, weights in enumerate(self.layers.all_weights):
            if layer:
                outputs = nn.functional.dropout(outputs, self.layers.dropout, self.training)
            cell = None if state.c is None else state.c[layer : layer + 1]
            before = RNNState(state.h[layer : layer + 1], cell)
            outputs, after = self._run(outputs, before, weights, 1, 0.0)
            h.append(after.h)
            c += [] if after.c is None else [after.c]
        return outputs, RNNState(torch.cat(h), torch.cat(c) if c else None)

    def _run(
        self,
        inputs: Tensor,
        state: RNNState,
        weights: Sequence[Tensor],
        num_layers: int,
        dropout: float,
    ) -> tuple[Tensor, RNNState]:
        """Call the fused kernel of the cell.

        Inside `torch.autocast` it computes in autocast's data type, and the new state is float32.
        Autocast itself would call cuDNN in float16, whichever type it was entered with.
        """
        device = inputs.device.type
        run = _FUNCTIONS[self.cell]
        options = (True, num_layers, dropout, self.training, False, True)
        if not torch.is_autocast_enabled(device):
            before = state.h if state.c is None else (state.h, state.c)
            outputs, h, *c = run(inputs, before, weights, *options)
            return outputs, RNNState(h, c[0] if c else None)
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            cast_state = RNNState(state.h.to(dtype), None if state.c is None else state.c.to(dtype))
            cast_weights = [weight.to(dtype) for weight in weights]
            outputs, new = self._run(
                inputs.to(dtype), cast_state, cast_weights, num_layers, dropout
            )
            return outputs, RNNState(new.h.float(), None if new.c is None else new.c.float())

    def read(
        self, inputs: Tensor, lengths: Tensor, *, padded: bool = True
    ) -> tuple[Tensor, RNNState]:
        """Run over sequences of different lengths, without waiting for the device to know them.

        Args:
            inputs: [B, T, I].
            lengths: number of valid steps of each row, [B], each from 1 to T.
            padded: whether a length may be below T.

        Returns:
            Outputs [B, T, H], zero beyond a row's length, and the state after each row's own last
            step.
        """
        if not padded:
            return self(inputs)  # type: ignore[no-any-return]
        if self.cell == "lstm":
            return self._read_late(inputs, lengths)
        # The state of these cells is their output.
        zeros = inputs.new_zeros(1, len(inputs), self.hidden_size)
        outputs, last, h = inputs, (lengths - 1)[:, None, None], []
        for layer, weights in enumerate(self.layers.all_weights):
            if layer:
                outputs = nn.functional.dropout(outputs, self.layers.dropout, self.training)
            outputs, _ = self._run(outputs, RNNState(zeros, None), weights, 1, 0.0)
            h.append(outputs.take_along_dim(last, 1)[:, 0])
        step = torch.arange(inputs.shape[1], device=lengths.device)
        outputs = outputs.masked_fill((step >= lengths[:, None])[..., None], 0.0)
        return outputs, RNNState(torch.stack(h), None)

    def _read_late(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, RNNState]:
        """Same as `read`, for an LSTM, whose outputs do not contain its cell state.

        A packed sequence would need the lengths on the host, and on a CPU it cannot use the fused
        kernel. Here each row is shifted so that all rows end at the same step. Before a row starts,
        one more input keeps its input gate closed, so that its state stays zero whatever it reads.
        """
        offset = inputs.shape[1] - lengths
        step = torch.arange(inputs.shape[1], device=lengths.device)
        is_before = (step < offset[:, None])[..., None]
        source = (step - offset[:, None]).clamp_min(0)[..., None]
        outputs = inputs.take_along_dim(source, 1)
        gate_weights = inputs.new_zeros(4, self.hidden_size, 1)
        gate_weights[0] = _CLOSED_GATE  # of the gates input, forget, cell, output
        zeros = inputs.new_zeros(1, len(inputs), self.hidden_size)
        h, c = [], []
        for layer, (input_weights, *other_weights) in enumerate(self.layers.all_weights):
            if layer:
                outputs = nn.functional.dropout(outputs, self.layers.dropout, self.training)
            weights = [torch.cat([input_weights, gate_weights.flatten(0, 1)], 1), *other_weights]
            outputs, last = self._run(
                torch.cat([outputs, is_before.to(outputs.dtype)], 2),
                *(RNNState(zeros, zeros), weights, 1, 0.0),
            )
            assert last.c is not None
            h.append(last.h)
            c.append(last.c)
        target = step + offset[:, None]
        outputs = outputs.take_along_dim(target.clamp_max(len(step) - 1)[..., None], 1)
        outputs = outputs.masked_fill((step >= lengths[:, None])[..., None], 0.0)
        return outputs, RNNState(torch.cat(h), torch.cat(c))

    def zero_state(self, rows: int, like: Tensor) -> RNNState:
        """Return the initial state of B rows, with the type and device of `like`."""
        zeros = like.new_zeros(self.num_layers, rows, self.hidden_size)
        return RNNState(zeros, zeros if self.cell == "lstm" else None)


class BidirectionalRNN(nn.Module):
    """Layers that read in both directions (Schuster & Paliwal 1997).

    The output of a step is the concatenation of the forward state, which depends on all steps up to
    it, and the backward state, which depends on all steps from it on. The backward cells run over
    rows that are reversed within their own lengths, so that padding comes last for them too. Every
    layer above the first reads both directions of the layer below it.

    Args:
        cell: kind of the cells.
        input_size: I, input size of the lowest layer.
        hidden_size: H, size of each direction.
        num_layers: number of pairs of layers.
        dropout: dropout probability between the layers.
    """

    def __init__(
        self,
        cell: CellKind,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.output_size = 2 * hidden_size
        self.dropout = Dropout(dropout)
        sizes = [input_size] + [self.output_size] * (num_layers - 1)
        self.forwards = nn.ModuleList(RNNStack(cell, size, hidden_size) for size in sizes)
        self.backwards = nn.ModuleList(RNNStack(cell, size, hidden_size) for size in sizes)

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Run over sequences in both directions.

        Args:
            inputs: [B, T, I].
            lengths: number of valid steps of each row, [B], each from 1 to T.

        Returns:
            Outputs [B, T, 2H], zero beyond a row's length, and the final states of the last layer,
            [B, 2H]: the forward state after a row's last step, concatenated with the backward state
            after its first step.
        """
        outputs = inputs
        for layer, (forward, backward) in enumerate(
            zip(self.forwards, self.backwards, strict=True)
        ):
            if layer:
                outputs = self.dropout(outputs)
            forward_outputs, _ = forward(outputs)
            backward_outputs, _ = backward(reverse_within(outputs, lengths))
            outputs = torch.cat([forward_outputs, reverse_within(backward_outputs, lengths)], 2)
        last = (lengths - 1)[:, None, None]
        ends = torch.cat(
            [forward_outputs.take_along_dim(last, 1), backward_outputs.take_along_dim(last, 1)], 2
        )
        is_padding = torch.arange(inputs.shape[1], device=lengths.device) >= lengths[:, None]
        return outputs.masked_fill(is_padding[..., None], 0.0), ends.squeeze(1)


def reverse_within(inputs: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each row within its own length; padding stays in place.

    Args:
        inputs: [B, T, ...].
        lengths: length of each row, [B], each from 0 to T.

    Returns:
        The reversed rows, in the shape of the inputs.
    """
    step = torch.arange(inputs.shape[1], device=lengths.device)
    mirrored = lengths[:, None] - 1 - step
    source = torch.where(mirrored >= 0, mirrored, step)
    return inputs.take_along_dim(source.reshape(*source.shape, *[1] * (inputs.dim() - 2)), 1)


def initialize(module: nn.Module, scale: float) -> None:
    """Initialize every parameter from the uniform distribution in [-scale, scale].

    Zaremba et al. 2014; Sutskever et al. 2014.
    """
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -scale, scale)
