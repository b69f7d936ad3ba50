"""The states that running text is read with, over all workers: what a checkpoint keeps of them.

Each worker reads its own lanes (`sampler.share`) and carries their states from window to window. A
checkpoint holds the states of all lanes in order, so that another number of workers can go on.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from training.models.cells import CellState
from training.ranks import Ranks


def gather_lanes(state: CellState | None, ranks: Ranks) -> dict[str, Tensor]:
    """All workers' states, by name, [layers, lanes, H]; empty if there are none."""
    mine = {}
    if state is not None:
        mine = {"h": state.h.cpu()} | ({} if state.c is None else {"c": state.c.cpu()})
    # A worker without lanes has no states.
    parts = [part for part in ranks.gather(mine) if part]
    merged: dict[str, Tensor] = {}
    for name in parts[0] if parts else ():
        lanes = [part[name] for part in parts]
        layers, _, size = lanes[0].shape
        merged[name] = lanes[0].new_empty(layers, sum(part.shape[1] for part in lanes), size)
        for rank, part in enumerate(lanes):
            merged[name][:, rank :: len(parts)] = part
    return merged


def deal_lanes(merged: Mapping[str, Tensor], ranks: Ranks) -> CellState | None:
    """The inverse: a worker's own states."""
    if not merged or ranks.rank >= merged["h"].shape[1]:
        return None
    mine = {name: lanes[:, ranks.rank :: ranks.world_size] for name, lanes in merged.items()}
    return CellState(mine["h"], mine.get("c"))
