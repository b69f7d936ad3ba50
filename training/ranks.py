"""One worker among its fellows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This worker among its fellows, who share one process group.

    Attributes:
        rank: its number, from 0.
        world_size: their number.
    """

    rank: int = 0
    world_size: int = 1

    def gather(self, value: T) -> list[T]:
        """Everyone's value, by rank."""
        if self.world_size == 1:
            return [value]
        values = [value] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def from_first(self, value: T) -> T:
        """Rank 0's value."""
        values = [value]
        if self.world_size > 1:
            distributed.broadcast_object_list(values)
        return values[0]

    def any(self, value: bool, device: torch.device) -> bool:
        """Whether it is true of anyone; one small reduction, cheap enough for every step."""
        if self.world_size == 1:
            return value
        flag = torch.tensor(float(value), device=device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)
