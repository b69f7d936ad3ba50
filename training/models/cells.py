"""Stacks of recurrent cells over whole padded sequences, one interface for every kind of cell.

Padding stands at the end of a sequence, where nothing that counts comes after it: so the fused
kernel runs over all steps at once, and a row's outputs do not depend on the rows beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.models.dropout import Dropout

CellKind = Literal["rnn", "gru", "lstm"]

# What a gate adds up to while it is held shut: its sigmoid is 0, and so is its gradient.
_SHUT = -1e4

_FUSED: dict[CellKind, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {
    "rnn": nn.RNN,
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}


@dataclass(frozen=True, slots=True)
class CellState:
    """The state of a stack between two steps.

    Attributes:
        h: outputs, [layers, B, H].
        c: cells, [layers, B, H], of an LSTM alone.
    """

    h: Tensor
    c: Tensor | None

    def select(self, rows: Tensor) -> CellState:
        """The states of some rows, in a new order; [N] of indices into B."""
        c = None if self.c is None else self.c.index_select(1, rows)
        return CellState(self.h.index_select(1, rows), c)

    def detach(self) -> CellState:
        """The same values, from which no gradient goes further back."""
        return CellState(self.h.detach(), None if self.c is None else self.c.detach())

    def to(self, device: torch.device) -> CellState:
        """The same state on a device."""
        return CellState(self.h.to(device), None if self.c is None else self.c.to(device))


class Recurrent(nn.Module):
    """A stack of layers of one kind of cell: tanh units (Elman 1990), GRUs (Cho et al. 2014) or
    LSTMs (Hochreiter & Schmidhuber 1997, with the forget gates of Gers et al. 2000).

    The recurrent weights of each gate begin orthogonal (Saxe et al. 2014), and the forget gates of
    an LSTM open (bias 1, Jozefowicz et al. 2015): gradients reach far from the first step on.

    Args:
        cell: which kind.
        input_size: I, of the lowest layer.
        hidden_size: H, of every layer.
        num_layers: layers, each reading the outputs of the one below.
        dropout: between the layers.
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
        # One layer has nothing between its layers, and torch warns of a dropout there.
        between = dropout if num_layers > 1 else 0.0
        self.layers = _FUSED[cell](
            input_size, hidden_size, num_layers, batch_first=True, dropout=between
        )
        for name, parameter in self.layers.named_parameters():
            if name.startswith("weight_hh"):
                for gate in parameter.detach().view(-1, hidden_size, parameter.shape[1]):
                    nn.init.orthogonal_(gate)
            elif name.startswith("weight_ih"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
            if cell == "lstm" and name.startswith("bias_ih"):
                nn.init.ones_(parameter.detach()[hidden_size : 2 * hidden_size])

    def forward(self, inputs: Tensor, state: CellState | None = None) -> tuple[Tensor, CellState]:
        """Run over whole sequences: [B, T, I] -> [B, T, H] and the state after step T.

        Without a state it begins with zeros.
        """
        before = None if state is None else state.h if state.c is None else (state.h, state.c)
        outputs, after = self.layers(inputs, before)
        return outputs, _state(after)

    def read(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, CellState]:
        """Run over sequences of different lengths.

        Args:
            inputs: [B, T, I].
            lengths: steps of each row that count, [B], each from 1 to T.

        Returns:
            Outputs [B, T, H], zero beyond a row's length, and the state after each row's own last
            step.

        Raises:
            RuntimeError: if a length is below 1.
        """
        if bool((lengths == inputs.shape[1]).all()):
            return self(inputs)  # type: ignore[no-any-return]
        if isinstance(self.layers, nn.LSTM) and inputs.device.type == "cpu":
            return self._read_late(self.layers, inputs, lengths)
        packed = nn.utils.rnn.pack_padded_sequence(
            inputs, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        outputs, after = self.layers(packed)
        padded, _ = nn.utils.rnn.pad_packed_sequence(
            outputs, batch_first=True, total_length=inputs.shape[1]
        )
        return padded, _state(after)

    def _read_late(
        self, lstm: nn.LSTM, inputs: Tensor, lengths: Tensor
    ) -> tuple[Tensor, CellState]:
        """As `read`, for an LSTM on a CPU, where packed sequences miss the fused kernel.

        Every row begins so late that it ends with the longest. Before that its input and output
        gates are held shut, by one more input, so that its state stays zero.
        """
        late = inputs.shape[1] - lengths
        step = torch.arange(inputs.shape[1], device=lengths.device)
        before = (step < late[:, None])[..., None]
        source = (step - late[:, None]).clamp_min(0)[..., None]
        outputs = inputs.take_along_dim(source, 1).masked_fill(before, 0.0)
        shut = inputs.new_zeros(4, self.hidden_size, 1)
        shut[0::3] = _SHUT
        zeros = inputs.new_zeros(1, len(inputs), self.hidden_size)
        h, c = [], []
        for layer, (w_inputs, *others) in enumerate(lstm.all_weights):
            if layer:
                outputs = nn.functional.dropout(outputs, lstm.dropout, self.training)
            weights = [torch.cat([w_inputs, shut.flatten(0, 1)], 1), *others]
            outputs, last_h, last_c = torch.lstm(
                torch.cat([outputs, before.to(outputs.dtype)], 2),
                *((zeros, zeros), weights, True, 1, 0.0, self.training, False, True),
            )
            h.append(last_h)
            c.append(last_c)
        target = step + late[:, None]
        outputs = outputs.take_along_dim(target.clamp_max(len(step) - 1)[..., None], 1)
        outputs = outputs.masked_fill((step >= lengths[:, None])[..., None], 0.0)
        return outputs, CellState(torch.cat(h), torch.cat(c))

    def zero_state(self, rows: int, like: Tensor) -> CellState:
        """The state before the first step, for B rows, of the type and the device of a tensor."""
        zeros = like.new_zeros(self.num_layers, rows, self.hidden_size)
        return CellState(zeros, zeros if self.cell == "lstm" else None)


class Bidirectional(nn.Module):
    """Layers that read both ways (Schuster & Paliwal 1997): a step's output is the forward state,
    which has seen all up to it, beside the backward one, which has seen all from it on.

    The backward cells run over rows reversed within their own lengths, so that padding comes last
    for them too. Every layer above the first sees both directions of the one below.

    Args:
        cell: which kind.
        input_size: I, of the lowest layer.
        hidden_size: H, of each direction.
        num_layers: pairs of layers.
        dropout: between the layers.
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
        self.forwards = nn.ModuleList(Recurrent(cell, size, hidden_size) for size in sizes)
        self.backwards = nn.ModuleList(Recurrent(cell, size, hidden_size) for size in sizes)

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read sequences both ways.

        Args:
            inputs: [B, T, I].
            lengths: steps of each row that count, [B], each from 1 to T.

        Returns:
            Outputs [B, T, 2H], zero beyond a row's length, and [B, 2H]: the last layer's forward
            state after a row's last step beside its backward state after the first.
        """
        outputs = inputs
        for layer, (forward, backward) in enumerate(
            zip(self.forwards, self.backwards, strict=True)
        ):
            if layer:
                outputs = self.dropout(outputs)
            rightward, _ = forward(outputs)
            leftward, _ = backward(reverse_within(outputs, lengths))
            outputs = torch.cat([rightward, reverse_within(leftward, lengths)], 2)
        last = (lengths - 1)[:, None, None]
        ends = torch.cat([rightward.take_along_dim(last, 1), leftward.take_along_dim(last, 1)], 2)
        beyond = torch.arange(inputs.shape[1], device=lengths.device) >= lengths[:, None]
        return outputs.masked_fill(beyond[..., None], 0.0), ends[:, 0]


def reverse_within(inputs: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each row within its own length; padding stays where it is.

    Args:
        inputs: [B, T, ...].
        lengths: [B], each from 0 to T.

    Returns:
        The shape of the inputs.
    """
    step = torch.arange(inputs.shape[1], device=lengths.device)
    mirrored = lengths[:, None] - 1 - step
    source = torch.where(mirrored >= 0, mirrored, step)
    return inputs.take_along_dim(source.reshape(*source.shape, *[1] * (inputs.dim() - 2)), 1)


def initialize(module: nn.Module, scale: float) -> None:
    """Draw every parameter anew, uniform in ±scale (Zaremba et al. 2014; Sutskever et al. 2014)."""
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -scale, scale)


def _state(after: Tensor | tuple[Tensor, Tensor]) -> CellState:
    """What torch returns, which is h alone for all cells but the LSTM."""
    return CellState(*after) if isinstance(after, tuple) else CellState(after, None)
