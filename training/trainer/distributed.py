"""Communication of a worker with the other workers of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from intertitle.training.models.rnn import RNNState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """Rank of this worker, and collective operations in its process group.

    Attributes:
        rank: rank of this worker, from 0.
        world_size: number of workers.
    """

    rank: int = 0
    world_size: int = 1

    def gather(self, value: T) -> list[T]:
        """Return the values of all workers, by rank."""
        if self.world_size == 1:
            return [value]
        values = [value] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """Return the value of rank 0."""
        values = [value]
        if self.world_size > 1:
            distributed.broadcast_object_list(values)
        (first,) = values
        return first

    def broadcast_weights(self, model: nn.Module) -> None:
        """Copy the weights and buffers of rank 0 to all workers."""
        if self.world_size > 1:
            for tensor in model.state_dict().values():
                distributed.broadcast(tensor, 0)

    def sum_gradients(self, model: nn.Module) -> None:
        """Replace the gradients of each worker by their sum, in one reduction.

        A parameter without a gradient, as on a worker whose share of a batch is empty, counts as 0.
        """
        if self.world_size == 1:
            return
        parameters = [p for p in model.parameters() if p.requires_grad]
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
        )
        distributed.all_reduce(flat)
        parts = torch.split(flat, [p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)


class StopVote:
    """The workers' agreement to stop: if one wants to stop before a step, all stop one step later.

    The votes are exchanged while the step is computed, on the host: no step waits for them, and
    they do not wait for a GPU. All workers must vote at the same steps.

    Args:
        ranks: rank of this worker.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._alone = ranks.world_size == 1
        self._flag = torch.zeros(())
        self._pending: distributed.Work | None = None
        self._group: distributed.ProcessGroup | None = None
        if not self._alone and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo")

    def stops(self, wish: bool) -> bool:
        """Return whether a worker voted to stop at the previous call; then cast this vote.

        A single worker stops at once.
        """
        if self._alone:
            return wish
        if self.read():
            return True
        self._flag = torch.tensor(float(wish))
        self._pending = distributed.all_reduce(
            self._flag, distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        return False

    def read(self) -> bool:
        """Return whether a worker voted to stop at the last call of `stops`."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
        return bool(self._flag)


def gather_stream_states(state: RNNState | None, ranks: Ranks) -> dict[str, Tensor]:
    """Gather the recurrent states of all workers.

    Args:
        state: state of this worker's streams, or None.
        ranks: rank of this worker.

    Returns:
        Tensors by name, [layers, streams, H]; empty if there are no states.
    """
    own_state = {}
    if state is not None:
        own_state = {"h": state.h.cpu()} | ({} if state.c is None else {"c": state.c.cpu()})
    # A worker without streams has no state.
    parts = [part for part in ranks.gather(own_state) if part]
    merged: dict[str, Tensor] = {}
    for name in parts[0] if parts else ():
        tensors = [part[name] for part in parts]
        layers, _, size = tensors[0].shape
        merged[name] = tensors[0].new_empty(layers, sum(part.shape[1] for part in tensors), size)
        for rank, part in enumerate(tensors):
            merged[name][:, rank :: len(parts)] = part
    return merged


def split_stream_states(merged: Mapping[str, Tensor], ranks: Ranks) -> RNNState | None:
    """Return this worker's part of the gathered states: the inverse of `gather_stream_states`."""
    if not merged or ranks.rank >= merged["h"].shape[1]:
        return None
    own_state = {name: tensor[:, ranks.rank :: ranks.world_size] for name, tensor in merged.items()}
    return RNNState(own_state["h"], own_state.get("c"))
