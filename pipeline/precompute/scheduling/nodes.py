"""Selection of the cluster's nodes that may work for one call of `precompute`.

A node without the mount of the files fails within milliseconds and would therefore attract all the
work; a node with other library versions would compute different features. Both are excluded for the
rest of the call.
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

from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.precompute.versions import differences, versions

log = logging.getLogger(__name__)

# Label that Ray sets on every node.
_NODE_ID = "ray.io/node-id"
# Time limit for a node to report its versions. A node that takes longer is checked when it returns
# its first results.
_ANSWER_S = 60.0
# Number of chunks, without one that it could read in between, that a node may fail to read although
# other nodes read them, before it is excluded.
_MAX_STRIKES = 3


@dataclass(frozen=True, slots=True)
class Place:
    """The node and the library versions that a worker ran with.

    Attributes:
        node: Ray's id of the node.
        versions: versions of the libraries on the node, by name.
    """

    node: str
    versions: dict[str, str]


def current_place() -> Place:
    """Return the place of this process."""
    return Place(ray.get_runtime_context().get_node_id(), versions())


class Nodes:
    """The nodes that one call may use."""

    def __init__(self) -> None:
        self._versions = versions()
        # Reasons by node id: why a node gets no work, and why it gets no work that reads or writes
        # files.
        self._unfit: dict[str, str] = {}
        self._without_files: dict[str, str] = {}
        self._strikes: Counter[str] = Counter()
        self._asked = [
            ray.remote(current_place)
            .options(num_cpus=0, scheduling_strategy=_on(node["NodeID"]))
            .remote()
            for node in _alive()
        ]

    def check(self) -> None:
        """Compare the library versions of the nodes with those of this process.

        Raises:
            UserError: the versions of some nodes differ; the message names all of them.
        """
        ready, _ = ray.wait(self._asked, num_returns=len(self._asked), timeout=_ANSWER_S)
        lines = []
        for answer in ready:
            try:
                place = ray.get(answer)
            except ray.exceptions.RayError:
                # The node has just left the cluster.
                continue
            if changes := differences(self._versions, place.versions):
                lines.append(f"node {name_of(place.node)} has {', '.join(changes)} as here")
        if lines:
            raise UserError(
                f"{'; '.join(lines)}: features would depend on the node, allowed: the same versions"
            )

    def takes(self, place: Place) -> bool:
        """Return whether results from a place may be used.

        A node that joined the cluster with other library versions is excluded.
        """
        if place.node not in self._unfit and place.versions != self._versions:
            changes = ", ".join(differences(self._versions, place.versions))
            self._leave_out(self._unfit, place.node, f"has {changes} as here")
        return place.node not in self._unfit

    def lacks_files(self, node: str, path: object) -> None:
        """Exclude a node that does not see an existing folder from work on files.

        Raises:
            JobError: no node is left.
        """
        self._leave_out(self._without_files, node, f"does not see {path}, which is there")

    def strike(self, node: str, reason: str) -> None:
        """Record that a node could not read a file that another node has read."""
        self._strikes[node] += 1
        if self._strikes[node] >= _MAX_STRIKES and self.has_usable_node([node]):
            self._leave_out(self._without_files, node, f"can't read files: {reason}")

    def clear(self, node: str) -> None:
        """Record that a node could read files."""
        self._strikes.pop(node, None)

    def has_usable_node(self, avoid: Iterable[str]) -> bool:
        """Return whether a node that is not in `avoid` may read files."""
        excluded = {*self._unfit, *self._without_files, *avoid}
        return any(
            node["NodeID"] not in excluded for node in _alive() if node["Resources"].get("CPU")
        )

    def for_files(self, avoid: Iterable[str] = ()) -> dict[str, Any]:
        """Return Ray options for a task that reads or writes files.

        Args:
            avoid: ids of nodes that the task should not run on if there are others.
        """
        excluded = {*self._unfit, *self._without_files}
        avoid = {*avoid} - excluded
        if avoid and self.has_usable_node(avoid):
            excluded |= avoid
        return _not_on(excluded)

    def for_networks(self) -> dict[str, Any]:
        """Return Ray options for an actor that needs no files."""
        return _not_on(set(self._unfit))

    def _leave_out(self, reasons: dict[str, str], node: str, why: str) -> None:
        if node in reasons:
            return
        reasons[node] = line = f"node {name_of(node)} {why}"
        if not self.has_usable_node(()):
            raise JobError(f"no node is left that can do the work: {line}; nothing is published")
        log.warning("%s: it gets no more of this call's work", line)


def name_of(node: str) -> str:
    """Return a readable name of a node: its address and the first characters of its id."""
    addresses = {info["NodeID"]: info["NodeManagerAddress"] for info in ray.nodes()}
    return f"{addresses.get(node, '?')} ({node[:8]})"


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)


def _not_on(nodes: set[str]) -> dict[str, Any]:
    if not nodes:
        return {}
    return {"scheduling_strategy": NodeLabelSchedulingStrategy({_NODE_ID: NotIn(*sorted(nodes))})}
