"""Which nodes a chunk is decoded on after one of them could not read it; the cluster is made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import FileState, ItemFile
from intertitle.pipeline.errors import JobError
from intertitle.pipeline.precompute.plan import ShardPlan
from intertitle.pipeline.precompute.scheduling import file_access as module
from intertitle.pipeline.precompute.scheduling import nodes as nodes_module
from intertitle.pipeline.precompute.scheduling.chunks import Chunk, Shard
from intertitle.pipeline.precompute.scheduling.file_access import settle
from intertitle.pipeline.precompute.scheduling.nodes import Nodes, Place
from intertitle.pipeline.precompute.scheduling.tasks import Decoded
from intertitle.pipeline.precompute.versions import versions
from intertitle.pipeline.precompute.work import DecodedItem, Rejection


class Cluster:
    """The nodes "a", "b" and "c" and a driver that sees every file."""

    def __init__(self, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._corpus = str(corpus)
        names = ["a", "b", "c"]
        info: list[dict[str, Any]] = [
            {"NodeID": n, "Alive": True, "NodeManagerAddress": f"ip-{n}", "Resources": {"CPU": 1}}
            for n in names
        ]
        monkeypatch.setattr(nodes_module.ray, "nodes", list)
        self.nodes = Nodes()
        monkeypatch.setattr(nodes_module.ray, "nodes", lambda: info)
        driver = SimpleNamespace(get_node_id=lambda: "driver")
        monkeypatch.setattr(module.ray, "get_runtime_context", lambda: driver)
        monkeypatch.setattr(module, "is_there", lambda source: True)

    def chunk(self, num_items: int = 1) -> Chunk:
        sources = tuple(
            ItemFile(Item(str(n), f"{n}.png", "image"), self._corpus) for n in range(num_items)
        )
        return Chunk(Shard(ShardPlan(0, np.zeros(0, np.int64), sources, ""), 1), 0, sources)

    def settle(
        self, chunk: Chunk, node: str, *errors: str | None, lacks_corpus: bool = False
    ) -> list[DecodedItem] | None:
        """A node's answer: why each item could not be read, or None."""
        items = [
            DecodedItem(source, None, np.zeros(0), None, Rejection("decode", error, "no"))
            if error
            else DecodedItem(source, FileState("hash", 1, 1), np.zeros(1))
            for source, error in zip(chunk.sources, errors, strict=False)
        ]
        return settle(self.nodes, chunk, Decoded(Place(node, versions()), items, lacks_corpus))

    def is_out(self, node: str) -> bool:
        return not self.nodes.has_usable_node({"a", "b", "c"} - {node})


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(tmp_path, monkeypatch)


def test_files_that_no_node_can_read_put_no_node_out(cluster: Cluster) -> None:
    for _ in range(4):
        chunk = cluster.chunk()
        assert cluster.settle(chunk, "a", "unavailable") is None
        assert cluster.settle(chunk, "b", "unavailable") is None
        (item,) = cluster.settle(chunk, "c", "unavailable") or []
        assert item.rejection and item.rejection.error == "unavailable"
    assert not any(map(cluster.is_out, "abc"))


@pytest.mark.parametrize("error", ["unavailable", "missing"])
def test_a_node_is_put_out_by_three_files_that_another_reads(error: str, cluster: Cluster) -> None:
    for num_read in range(3):
        assert not cluster.is_out("a")
        chunk = cluster.chunk()
        assert cluster.settle(chunk, "a", error) is None
        assert chunk.avoid == {"a"}
        # However often its features are lost and it is decoded again, it counts once.
        for _ in range(1 + (num_read == 0)):
            assert cluster.settle(chunk, "b", None)
    assert cluster.is_out("a") and not cluster.is_out("b")


def test_another_file_of_the_chunk_proves_nothing(cluster: Cluster) -> None:
    for _ in range(4):
        chunk = cluster.chunk(2)
        assert cluster.settle(chunk, "a", None, "unavailable") is None
        # Only the first item, in a task of its own.
        assert cluster.settle(chunk, "b", None)
    assert not cluster.is_out("a")


def test_a_node_without_the_corpus_is_put_out_at_once(cluster: Cluster) -> None:
    for node in "ab":
        assert cluster.settle(cluster.chunk(), node, "missing", lacks_corpus=True) is None
        assert cluster.is_out(node)
    with pytest.raises(JobError, match="no node is left"):
        cluster.settle(cluster.chunk(), "c", "missing", lacks_corpus=True)


def test_a_late_file_is_no_fault_of_the_last_node(cluster: Cluster) -> None:
    for node in "ab":
        cluster.settle(cluster.chunk(), node, "missing", lacks_corpus=True)
    (item,) = cluster.settle(cluster.chunk(), "c", "missing") or []
    assert item.rejection and item.rejection.error == "unavailable"
    assert not cluster.is_out("c")
