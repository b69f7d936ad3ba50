"""Decision whether the result of a decode task stands, or another node has to read the files."""

from __future__ import annotations

from dataclasses import replace

import ray

from intertitle.pipeline.decoding.item_file import is_there
from intertitle.pipeline.errors import one_line
from intertitle.pipeline.precompute.scheduling import tasks
from intertitle.pipeline.precompute.scheduling.chunks import Chunk
from intertitle.pipeline.precompute.scheduling.nodes import Nodes, Place, name_of
from intertitle.pipeline.precompute.work import DecodedItem, Rejection
from intertitle.pipeline.storage.paths import is_local

# Maximum number of nodes on which the files of a chunk are tried.
_MAX_NODES = 3


def settle(nodes: Nodes, chunk: Chunk, decoded: tasks.Decoded) -> list[DecodedItem] | None:
    """Return the decoded items, or None if they have to be decoded on another node."""
    place, items = decoded.place, decoded.items
    if not nodes.takes(place):
        return None
    _strike_nodes(nodes, chunk, decoded)
    unseen = [item for item in items if _is(item, "missing") and is_there(item.source)]
    unread = [item for item in items if _is(item, "unavailable") and is_local(item.source.path)]
    if not unseen and not unread:
        nodes.clear(place.node)
        return items
    chunk.avoid.add(place.node)
    on_other_node = place.node != ray.get_runtime_context().get_node_id()
    if unseen and decoded.lacks_corpus and on_other_node:
        nodes.lacks_files(place.node, unseen[0].source.corpus)
        return None
    item = (unseen or unread)[0]
    chunk.unread[place.node] = item.source, item.rejection.message if item.rejection else ""
    if len(chunk.avoid) < _MAX_NODES and nodes.has_usable_node(chunk.avoid):
        return None
    return [_not_seen(item, place) if item in unseen else item for item in items]


def _strike_nodes(nodes: Nodes, chunk: Chunk, decoded: tasks.Decoded) -> None:
    """Record that nodes could not read a file of the chunk that this node has read."""
    read = [item.source for item in decoded.items if item.state and item.state.sha256]
    for node, (source, reason) in list(chunk.unread.items()):
        if source in read:
            del chunk.unread[node]
            if node != decoded.place.node:
                nodes.strike(node, reason)


def _is(item: DecodedItem, error: str) -> bool:
    return item.rejection is not None and item.rejection.error == error


def _not_seen(item: DecodedItem, place: Place) -> DecodedItem:
    line = f"{item.source.path}: is there, but node {name_of(place.node)} did not see it"
    return replace(item, rejection=Rejection("decode", "unavailable", one_line(line)))
