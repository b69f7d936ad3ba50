"""Which nodes work for a call; the cluster is made up."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from ray.util.scheduling_strategies import NotIn

from intertitle.pipeline.errors import JobError
from intertitle.pipeline.precompute.scheduling import nodes as module
from intertitle.pipeline.precompute.scheduling.nodes import Nodes, Place
from intertitle.pipeline.precompute.versions import versions


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three nodes, which a test may change."""
    names: list[str] = []

    def found() -> list[dict[str, Any]]:
        return [
            {"NodeID": n, "Alive": True, "NodeManagerAddress": f"ip-{n}", "Resources": {"CPU": 1}}
            for n in names
        ]

    monkeypatch.setattr(module.ray, "nodes", found)
    # Nobody is asked for versions.
    monkeypatch.setattr(module, "_alive", list)
    nodes = Nodes()
    monkeypatch.setattr(module, "Nodes", lambda: nodes)
    monkeypatch.setattr(module, "_alive", found)
    names.extend("abc")
    return names


def left_out(options: dict[str, Any]) -> list[str]:
    if not options:
        return []
    ((_, operator),) = [(e.key, e.operator) for e in options["scheduling_strategy"].hard]
    assert isinstance(operator, NotIn)
    return operator.values


def test_a_node_that_lacks_the_files_reads_and_writes_none_until_no_other_is_left(
    alive: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = module.Nodes()
    assert nodes.for_files() == nodes.for_networks() == {}
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            nodes.lacks_files("a", "/mnt/a.mp4")
    (said,) = caplog.messages
    assert said == (
        "node ip-a (a) does not see /mnt/a.mp4, which is there: it gets no more of this call's work"
    )
    assert left_out(nodes.for_files()) == ["a"]
    # A network needs no files.
    assert nodes.for_networks() == {}
    nodes.lacks_files("b", "/mnt/a.mp4")
    with pytest.raises(JobError, match=r"no node is left .*: node ip-c \(c\) does not see /mnt/a"):
        nodes.lacks_files("c", "/mnt/a.mp4")


def test_a_node_that_joins_with_other_versions_gets_no_work_at_all(alive: list[str]) -> None:
    nodes = module.Nodes()
    assert nodes.takes(Place("a", versions()))
    assert not nodes.takes(Place("b", {**versions(), "av": "0.1"}))
    assert not nodes.takes(Place("b", {**versions(), "av": "0.1"}))
    assert left_out(nodes.for_files()) == left_out(nodes.for_networks()) == ["b"]
    alive.remove("c")
    with pytest.raises(JobError, match=r"no node is left .*ip-a \(a\) has av 0\.1, not "):
        nodes.takes(Place("a", {**versions(), "av": "0.1"}))


def test_a_node_that_cannot_read_again_and_again_is_left_out_unless_it_is_the_last(
    alive: list[str],
) -> None:
    nodes = module.Nodes()
    for node, times in (("a", 2), ("b", 3)):
        for _ in range(times):
            nodes.strike(node, "Stale file handle")
    assert left_out(nodes.for_files()) == ["b"]
    nodes.clear("a")
    for _ in range(2):
        nodes.strike("a", "Stale file handle")
    assert left_out(nodes.for_files()) == ["b"]
    alive.remove("c")
    for _ in range(5):
        nodes.strike("a", "Stale file handle")
    assert left_out(nodes.for_files()) == ["b"]


def test_a_task_avoids_a_node_only_if_there_are_others(alive: list[str]) -> None:
    nodes = module.Nodes()
    assert left_out(nodes.for_files({"a"})) == ["a"]
    assert left_out(nodes.for_files({"a", "b"})) == ["a", "b"]
    assert nodes.for_files({"a", "b", "c"}) == {}
    assert nodes.has_usable_node({"a", "b"}) and not nodes.has_usable_node({"a", "b", "c"})
