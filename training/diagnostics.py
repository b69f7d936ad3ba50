"""How far gradients reach back through time, cell by cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from training.data.stream import StreamDataset
from training.models.cells import CellKind, CellState, Recurrent
from training.models.language_model import LanguageModel

# Of a text: steps of a window, and windows that are averaged over.
WINDOW, NUM_WINDOWS = 64, 32


def gradient_flow(
    stack: Recurrent, inputs: Tensor, told: Callable[[Tensor], Tensor]
) -> NDArray[np.float64]:
    """‖∂loss_t/∂h_k‖ of the last step t against t - k (Hochreiter & Schmidhuber 1997; Pascanu et
    al. 2013).

    h_k is the top layer's output of step k, as step k + 1 finds it: what is measured flows through
    h_k alone. An LSTM has a second path beside it, from c_k to c_{k+1}, which is not counted at k;
    what leaves h_k by the gates of step k + 1 and goes on from cell to cell is. Likewise in a stack
    the states of the layers below are paths of their own. So the curve tells how a gradient fades
    with distance; it is a lower bound of what reaches a whole state.

    The stack is left as it was, with no gradients on its parameters. It runs in the mode it is in:
    put a stack with dropout in evaluation mode first.

    Args:
        stack: the cells.
        inputs: [B, T, I], all of length T.
        told: from the top layer's outputs at the last step, [B, H], to the loss of each row, [B].

    Returns:
        [T], the norms' mean over the rows; the index is the distance, 0 for h_t itself.
    """
    with torch.enable_grad():
        state: CellState | None = None
        hidden = []
        for step in inputs.unbind(1):
            _, state = stack(step[:, None], state)
            hidden.append(state.h)
        gradients = torch.autograd.grad(told(hidden[-1][-1]).sum(), hidden)
    # In double precision: what has faded to 1e-23 has a square that single precision calls zero.
    norms = [gradient[-1].double().norm(dim=-1).mean().item() for gradient in reversed(gradients)]
    return np.array(norms)


def compare_cells(
    stack: Recurrent, inputs: Tensor, told: Callable[[Tensor], Tensor], seed: int
) -> dict[str, NDArray[np.float64]]:
    """The gradient flow of a trained stack, and of fresh ones of its size with each kind of cell.

    The inputs and the loss are the same for all. The global random state is left as it was.

    Args:
        stack: the trained cells, in evaluation mode.
        inputs: [B, T, I], as of `gradient_flow`.
        told: as of `gradient_flow`.
        seed: of the fresh weights, which are as `Recurrent` draws them.

    Returns:
        [T] by name, as of `gradient_flow`.
    """
    flows = {f"{stack.cell}, trained": gradient_flow(stack, inputs, told)}
    with torch.random.fork_rng(devices=()):
        for cell in get_args(CellKind):
            torch.manual_seed(seed)
            fresh = Recurrent(cell, inputs.shape[2], stack.hidden_size, stack.num_layers)
            flows[f"{cell}, fresh"] = gradient_flow(fresh.to(inputs), inputs, told)
    return flows


def compare_on_text(
    model: LanguageModel, lines: Sequence[Sequence[int]], seed: int
) -> dict[str, NDArray[np.float64]]:
    """`compare_cells` over the first windows of a text; the loss is the last token's -log p.

    Whichever cells are between, the model's embeddings are read and its output layer tells.

    Args:
        model: in evaluation mode.
        lines: tokens of each, without <bos> and <eos>.
        seed: as of `compare_cells`.

    Returns:
        [WINDOW] by name, as of `compare_cells`; nothing of a text that is shorter.
    """
    text = StreamDataset(lines, 1, WINDOW)
    whole = np.flatnonzero(text.lengths == WINDOW)[:NUM_WINDOWS]
    if not len(whole):
        return {}
    batch = text.batch(whole).to(model.words.bias.device)

    def told(hidden: Tensor) -> Tensor:
        return cross_entropy(model.logits(hidden), batch.targets[:, -1], reduction="none")

    with torch.no_grad():
        inputs = model.words(batch.inputs)
    return compare_cells(model.stack, inputs, told, seed)
