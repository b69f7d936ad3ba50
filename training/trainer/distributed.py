"""Communication of a worker with the other workers of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

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
        return values[0]

    def any(self, value: bool, device: torch.device) -> bool:
        """Return whether the value is true on any worker.

        It is one small reduction, cheap enough for every step.
        """
        if self.world_size == 1:
            return value
        flag = torch.tensor(float(value), device=device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)


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
