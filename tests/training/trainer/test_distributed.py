"""What workers tell each other, and the states of running text over them."""

import multiprocessing
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from intertitle.training.models.rnn import RNNState
from intertitle.training.trainer.distributed import (
    Ranks,
    StopVote,
    gather_stream_states,
    split_stream_states,
)


def test_a_worker_alone_needs_nobody() -> None:
    ranks = Ranks()
    assert (ranks.rank, ranks.world_size) == (0, 1)
    assert ranks.gather("mine") == ["mine"]
    assert ranks.broadcast("mine") == "mine"
    vote = StopVote(ranks)
    assert [vote.stops(wish) for wish in (False, True)] == [False, True]


def tell(rank: int, folder: Path) -> None:
    """One of two workers."""
    ranks = Ranks(rank, 2)
    distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    assert ranks.gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    assert ranks.broadcast(f"from {rank}") == "from 0"
    # What one of them wants, both do one call later.
    vote = StopVote(ranks)
    assert [vote.stops(wish) for wish in (False, rank == 1, False)] == [False, False, True]
    # Three streams: the first worker has two of them.
    merged = {"h": torch.arange(3.0).view(1, 3, 1)}
    own = split_stream_states(merged, ranks)
    assert own is not None and own.h.flatten().tolist() == ([0, 2] if rank == 0 else [1])
    assert torch.equal(gather_stream_states(own, ranks)["h"], merged["h"])
    distributed.destroy_process_group()


def test_workers_tell_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=tell, args=(rank, tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()


def test_every_worker_gets_its_own_lanes_back_and_one_too_many_gets_none() -> None:
    h, c = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    merged = gather_stream_states(RNNState(h, c), Ranks())
    assert torch.equal(merged["h"], h)
    second = split_stream_states(merged, Ranks(1, 2))
    assert second is not None and second.c is not None
    assert torch.equal(second.h, h[:, [1]])
    assert torch.equal(second.c, c[:, [1]])
    assert split_stream_states(merged, Ranks(3, 4)) is None
    assert split_stream_states(gather_stream_states(None, Ranks()), Ranks()) is None


class Gathered(Ranks):
    """A worker whose fellows have other states."""

    def __init__(self, parts: list[dict[str, torch.Tensor]]) -> None:
        super().__init__(0, len(parts))
        object.__setattr__(self, "parts", parts)

    __slots__ = ("parts",)

    def gather(self, value: object) -> list[Any]:
        return self.parts  # type: ignore[attr-defined, no-any-return]


def test_a_worker_that_has_no_lanes_takes_no_place_among_them() -> None:
    first, second = torch.randn(1, 2, 3), torch.randn(1, 1, 3)
    merged = gather_stream_states(None, Gathered([{"h": first}, {"h": second}, {}, {}]))
    assert torch.equal(merged["h"], torch.stack([first[:, 0], second[:, 0], first[:, 1]], 1))
    assert gather_stream_states(None, Gathered([{}, {}])) == {}


def test_a_cell_without_memory_has_only_its_output() -> None:
    merged = gather_stream_states(RNNState(torch.randn(1, 2, 3), None), Ranks())
    assert merged.keys() == {"h"}
    alone = split_stream_states(merged, Ranks())
    assert alone is not None and alone.c is None
