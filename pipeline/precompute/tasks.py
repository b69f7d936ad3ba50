"""What Ray runs for a call: plain functions of the pipeline, each telling where it ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from pipeline.limits import Limits
from pipeline.precompute.nodes import Place, here
from pipeline.sampling import Sampling
from pipeline.sandbox import decode_confined, examine
from pipeline.shards import Format, ShardFile
from pipeline.source import Source
from pipeline.work import DecodedItem, unavailable, write_features


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of some items.

    Attributes:
        place: where they were decoded.
        items: in the order asked for.
    """

    place: Place
    items: list[DecodedItem]


@dataclass(frozen=True, slots=True)
class Written:
    """An attempt at a shard.

    Attributes:
        place: where it was written.
        file: the shard; None where the store's folder is not to be seen.
    """

    place: Place
    file: ShardFile | None


def _decode(
    sources: tuple[Source, ...], sampling: Sampling, size: int, limits: Limits
) -> tuple[Decoded, NDArray[np.uint8]]:
    """`decode_confined`; where no process can be started, that is not the items' fault."""
    try:
        items, frames = decode_confined(sources, sampling, size, limits)
    except OSError as error:
        items, frames = _none_of(sources, size, error)
    return Decoded(here(), items), frames


def _examine(
    source: Source, sampling: Sampling, size: int, limits: Limits
) -> tuple[Decoded, NDArray[np.uint8]]:
    """`examine`, likewise."""
    try:
        item, frames = examine(source, sampling, size, limits)
    except OSError as error:
        (item,), frames = _none_of([source], size, error)
    return Decoded(here(), [item]), frames


def _none_of(
    sources: Sequence[Source], size: int, error: OSError
) -> tuple[list[DecodedItem], NDArray[np.uint8]]:
    none = np.zeros((0, size, size, 3), np.uint8)
    return [unavailable(source, error) for source in sources], none


def _write(
    target: str,
    format: Format,
    shape: tuple[int, ...],
    decoded: Sequence[DecodedItem],
    *parts: NDArray[np.float32],
) -> tuple[list[DecodedItem], Written]:
    """`write_features`, where the driver has made the store's folder."""
    try:
        ended, file = write_features(target, format, shape, decoded, *parts)
    except FileNotFoundError:
        return [], Written(here(), None)
    return ended, Written(here(), file)


# What is tried again is the flow's to say, which knows where and how often: Ray would do so on any
# node.
decode_task: Any = ray.remote(num_cpus=1, num_returns=2, max_retries=0)(_decode)
examine_task: Any = ray.remote(num_cpus=1, num_returns=2, max_retries=0)(_examine)
write_task: Any = ray.remote(num_cpus=0, num_returns=2, max_retries=0)(_write)
