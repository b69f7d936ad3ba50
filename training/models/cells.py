"""Stacks of LSTM cells (Hochreiter & Schmidhuber 1997) over whole padded sequences.

Padding stands at the end of a sequence, where nothing that counts comes after it: so the fused
kernel runs over all steps at once, and a row's outputs do not depend on the rows beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LSTMState:
    """The state of a stack between two steps.

    Attributes:
        h: outputs, [layers, B, H].
        c: cells, [layers, B, H].
    """

    h: Tensor
    c: Tensor

    def select(self, rows: Tensor) -> LSTMState:
        """The states of some rows, in a new order; [N] of indices into B."""
        return LSTMState(self.h.index_select(1, rows), self.c.index_select(1, rows))


class LSTM(nn.Module):
    """One LSTM layer.

    The recurrent weights of each gate begin orthogonal (Saxe et al. 2014) and the forget gates open
    (bias 1, Jozefowicz et al. 2015): gradients reach far from the first step on.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("weight_hh"):
                for gate in parameter.detach().chunk(4):
                    nn.init.orthogonal_(gate)
            elif name.startswith("weight_ih"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                nn.init.ones_(parameter.detach()[hidden_size : 2 * hidden_size])

    def forward(self, inputs: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Run over whole sequences: [B, T, input_size] -> [B, T, H] and the state after step T."""
        outputs, (h, c) = self.lstm(inputs, None if state is None else (state.h, state.c))
        return outputs, LSTMState(h, c)

    def read(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, LSTMState]:
        """Run over sequences of different lengths.

        Args:
            inputs: [B, T, input_size].
            lengths: steps of each row that count, [B].

        Returns:
            Outputs [B, T, H] (what they hold beyond a row's length is undefined), and the state
            after each row's own last step.
        """
        if bool((lengths == inputs.shape[1]).all()):
            return self(inputs)  # type: ignore[no-any-return]
        packed = nn.utils.rnn.pack_padded_sequence(
            inputs, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        outputs, (h, c) = self.lstm(packed)
        padded, _ = nn.utils.rnn.pad_packed_sequence(
            outputs, batch_first=True, total_length=inputs.shape[1]
        )
        return padded, LSTMState(h, c)
