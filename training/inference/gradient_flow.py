"""Gradient flow through time: norms of gradients by distance, for each kind of cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from intertitle.training.config.models import CellKind
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.models.language_model import LanguageModel
from intertitle.training.models.rnn import RNNStack, RNNState

# Number of steps per window of text, and number of windows that norms are averaged over.
WINDOW, NUM_WINDOWS = 64, 32


def gradient_flow(
    stack: RNNStack, inputs: Tensor, loss_function: Callable[[Tensor], Tensor]
) -> NDArray[np.float64]:
    """Compute ‖∂loss_t/∂h_k‖ of the last step t for each distance t - k (Hochreiter & Schmidhuber
    1997; Pascanu et al. 2013).

    h_k is the output of the top layer at step k, as passed to step k + 1: only gradients that flow
    through h_k are measured. An LSTM has a second path, from c_k to c_{k+1}, which is not counted
    at step k; gradients that leave h_k through the gates of step k + 1 and then flow from cell to
    cell are counted. In a stack, the states of the lower layers are separate paths as well. The
    curve therefore shows how gradients vanish with distance; it is a lower bound of the gradient
    that reaches the complete state.

    The stack is not changed, and its parameters get no gradients. It runs in its current mode: put
    a stack with dropout in evaluation mode first.

    Args:
        stack: recurrent cells.
        inputs: inputs of the stack, [B, T, I], all of length T.
        loss_function: function from the top layer's outputs at the last step, [B, H], to the
            loss of each row, [B].

    Returns:
        Mean norms over the rows, float64, [T]; the index is the distance, 0 for h_t itself.
    """
    with torch.enable_grad():
        state: RNNState | None = None
        hidden = []
        for step in inputs.unbind(1):
            _, state = stack(step[:, None], state)
            hidden.append(state.h)
        gradients = torch.autograd.grad(loss_function(hidden[-1][-1]).sum(), hidden)
    # In double precision, because the square of a norm below 1e-23 is zero in single precision.
    norms = [gradient[-1].double().norm(dim=-1).mean().item() for gradient in reversed(gradients)]
    return np.array(norms)


def compare_cells(
    stack: RNNStack, inputs: Tensor, loss_function: Callable[[Tensor], Tensor], seed: int
) -> dict[str, NDArray[np.float64]]:
    """Compare the gradient flow of a trained stack with untrained stacks of each kind of cell.

    The untrained stacks have the same size, and the inputs and the loss are the same for all. The
    global random state is not changed.

    Args:
        stack: trained cells in evaluation mode.
        inputs: inputs of the stack, [B, T, I]; see `gradient_flow`.
        loss_function: loss function; see `gradient_flow`.
        seed: random seed of the untrained weights, which are initialized by `RNNStack`.

    Returns:
        Norms, [T], by the name of the stack; see `gradient_flow`.
    """
    flows = {f"{stack.cell}, trained": gradient_flow(stack, inputs, loss_function)}
    with torch.random.fork_rng(devices=()):
        for cell in get_args(CellKind):
            torch.manual_seed(seed)
            fresh = RNNStack(cell, inputs.shape[2], stack.hidden_size, stack.num_layers)
            flows[f"{cell}, fresh"] = gradient_flow(fresh.to(inputs), inputs, loss_function)
    return flows


def compare_on_text(
    model: LanguageModel, lines: Sequence[Sequence[int]], seed: int
) -> dict[str, NDArray[np.float64]]:
    """Run `compare_cells` on the first windows of a text with the last token's -log p as the loss.

    All stacks use the embeddings and the output layer of the model.

    Args:
        model: language model in evaluation mode.
        lines: token ids of each line, without <bos> and <eos>.
        seed: random seed; see `compare_cells`.

    Returns:
        Norms, [WINDOW], by the name of the stack; see `compare_cells`. Empty for a text that is
        shorter than a window.
    """
    text = LanguageModelDataset(lines, 1, WINDOW)
    full_windows = np.flatnonzero(text.lengths == WINDOW)[:NUM_WINDOWS]
    if not len(full_windows):
        return {}
    batch = text.batch(full_windows).to(model.words.bias.device)

    def last_token_loss(hidden: Tensor) -> Tensor:
        return cross_entropy(model.logits(hidden), batch.targets[:, -1], reduction="none")

    with torch.no_grad():
        inputs = model.words(batch.inputs)
    return compare_cells(model.stack, inputs, last_token_loss, seed)
