"""The nodes of a cluster as one call uses them: which may work for it, and why others may not.

A node that lacks the files' mount fails in milliseconds, and so would attract all the work; one
with other libraries would make other features. Both are left out for the rest of the call.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
)

from pipeline.errors import JobError, UserError
from pipeline.versions import differences, versions

log = logging.getLogger(__name__)

# The label that Ray gives every node.
_NODE_ID = "ray.io/node-id"
# A node that is asked for its versions and does not answer in this time is checked by its results.
_ANSWER_S = 60.0
# So many chunks in a row that a node could not read, though others may.
_MAX_STRIKES = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker ran.

    Attributes:
        node: Ray's id of the node.
        versions: of the programs there.
    """

    node: str
    versions: dict[str, str]


def here() -> Place:
    """The place of this process."""
    return Place(ray.get_runtime_context().get_node_id(), versions())


class Nodes:
    """The nodes of one call."""

    def __init__(self) -> None:
        self._versions = versions()
        # By id: why a node gets no work at all, and why it gets none that reads or writes files.
        self._unfit: dict[str, str] = {}
        self._without_files: dict[str, str] = {}
        self._strikes: Counter[str] = Counter()
        self._asked = [
            ray.remote(here).options(num_cpus=0, scheduling_strategy=_on(node["NodeID"])).remote()
            for node in _alive()
        ]

    def check(self) -> None:
        """Compare the programs of the nodes that are there with this process' own.

        Raises:
            UserError: some differ; all of them are named.
        """
        ready, _ = ray.wait(self._asked, num_returns=len(self._asked), timeout=_ANSWER_S)
        found = []
        for answer in ready:
            try:
                place = ray.get(answer)
            except ray.exceptions.RayError:
                # It has just gone.
                continue
            if other := differences(self._versions, place.versions):
                found.append(f"node {name_of(place.node)} has {', '.join(other)} as here")
        if found:
            raise UserError(
                f"{'; '.join(found)}: features would depend on the node, allowed: the same versions"
            )

    def takes(self, place: Place) -> bool:
        """Whether what was made at a place counts; a node that joined with others is left out."""
        if place.node not in self._unfit and place.versions != self._versions:
            other = ", ".join(differences(self._versions, place.versions))
            self._leave_out(self._unfit, place.node, f"has {other} as here")
        return place.node not in self._unfit

    def lacks_files(self, node: str, path: object) -> None:
        """Note that a node does not see a file that is there.

        Raises:
            JobError: no node is left.
        """
        self._leave_out(self._without_files, node, f"does not see {path}, which is there")

    def strike(self, node: str, reason: str) -> None:
        """Note that a node could not read files, through no fault of theirs."""
        self._strikes[node] += 1
        if self._strikes[node] >= _MAX_STRIKES and self.others([node]):
            self._leave_out(self._without_files, node, f"can't read files: {reason}")

    def clear(self, node: str) -> None:
        """Note that a node could read files."""
        self._strikes.pop(node, None)

    def others(self, avoid: Iterable[str]) -> bool:
        """Whether there is a node besides these that may read files."""
        out = {*self._unfit, *self._without_files, *avoid}
        return any(node["NodeID"] not in out for node in _alive() if node["Resources"].get("CPU"))

    def for_files(self, avoid: Iterable[str] = ()) -> dict[str, Any]:
        """Options for a task that reads or writes files.

        Args:
            avoid: nodes that it had better not run on, if there are others.
        """
        out = {*self._unfit, *self._without_files}
        avoid = {*avoid} - out
        if avoid and self.others(avoid):
            out |= avoid
        return _not_on(out)

    def for_networks(self) -> dict[str, Any]:
        """Options for an actor that needs no files."""
        return _not_on(set(self._unfit))

    def _leave_out(self, reasons: dict[str, str], node: str, why: str) -> None:
        if node in reasons:
            return
        reasons[node] = line = f"node {name_of(node)} {why}"
        if not self.others(()):
            raise JobError(f"no node is left that can do the work: {line}; nothing is published")
        log.warning("%s: it gets no more of this call's work", line)


def name_of(node: str) -> str:
    """A node's address, for a person, with the beginning of its id."""
    addresses = {found["NodeID"]: found["NodeManagerAddress"] for found in ray.nodes()}
    return f"{addresses.get(node, '?')} ({node[:8]})"


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)


def _not_on(nodes: set[str]) -> dict[str, Any]:
    if not nodes:
        return {}
    return {"scheduling_strategy": NodeLabelSchedulingStrategy({_NODE_ID: NotIn(*sorted(nodes))})}
