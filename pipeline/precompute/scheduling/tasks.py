"""Ray tasks of a call: functions of the pipeline whose results include where they ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from intertitle.pipeline.decoding.item_file import ItemFile, lacks_corpus
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Sampling
from intertitle.pipeline.feature_store.shards import Format, ShardFile
from intertitle.pipeline.precompute.isolation.sandbox import decode_confined, decode_isolated
from intertitle.pipeline.precompute.scheduling.nodes import Place, current_place
from intertitle.pipeline.precompute.work import DecodedItem, unavailable, write_features


@dataclass(frozen=True, slots=True)
class Decoded:
    """Result of a decode task.

    Attributes:
        place: place where the items were decoded.
        items: decoded or rejected items, in the order of the sources.
        lacks_corpus: whether items are missing because the place does not see their corpus.
    """

    place: Place
    items: list[DecodedItem]
    lacks_corpus: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """Result of a write task: one attempt at a shard.

    Attributes:
        place: place where the shard was written.
        file: file of the shard; None if the node does not see the store's folder.
    """

    place: Place
    file: ShardFile | None


def _decode(
    sources: tuple[ItemFile, ...], sampling: Sampling, size: int, limits: Limits
) -> tuple[Decoded, NDArray[np.uint8]]:
    """Run `decode_confined`; if the machine is at fault, return the items as unavailable."""
    try:
        items, frames = decode_confined(sources, sampling, size, limits)
    except OSError as error:
        items, frames = _none_of(sources, size, error)
    return _result(items), frames


def _examine(
    source: ItemFile, sampling: Sampling, size: int, limits: Limits
) -> tuple[Decoded, NDArray[np.uint8]]:
    """Run `decode_isolated`; if the machine is at fault, return the item as unavailable."""
    try:
        item, frames = decode_isolated(source, sampling, size, limits)
    except OSError as error:
        (item,), frames = _none_of([source], size, error)
    return _result([item]), frames


def _result(items: list[DecodedItem]) -> Decoded:
    missing = (i.source for i in items if i.rejection and i.rejection.error == "missing")
    return Decoded(current_place(), items, any(map(lacks_corpus, missing)))


def _none_of(
    sources: Sequence[ItemFile], size: int, error: OSError
) -> tuple[list[DecodedItem], NDArray[np.uint8]]:
    no_frames = np.zeros((0, size, size, 3), np.uint8)
    return [unavailable(source, error) for source in sources], no_frames


def _write(
    target: str,
    format: Format,
    shape: tuple[int, ...],
    decoded: Sequence[DecodedItem],
    *parts: NDArray[np.float32],
) -> tuple[list[DecodedItem], Written]:
    """Run `write_features` in the store's folder, which the driver has created."""
    try:
        items, file = write_features(target, format, shape, decoded, *parts)
    except FileNotFoundError:
        return [], Written(current_place(), None)
    return items, Written(current_place(), file)


# The scheduler retries tasks, because it decides on which nodes and how often; Ray would retry them
# on any node.
decode_task: Any = ray.remote(num_cpus=1, num_returns=2, max_retries=0)(_decode)
examine_task: Any = ray.remote(num_cpus=1, num_returns=2, max_retries=0)(_examine)
write_task: Any = ray.remote(num_cpus=0, num_returns=2, max_retries=0)(_write)
