"""Read the files of items once: their hashes, and thumbnails of their frames."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.inspection.check.pictures import DECODED_SIZE, thumbnails
from intertitle.pipeline.precompute.isolation.sandbox import decode_confined

# Number of frames of a video that are compared.
NUM_FRAMES = 4
# Number of items that one process decodes.
_CHUNK = 16
_LIMITS = Limits(max_pixels=sys.maxsize)


@dataclass(frozen=True, slots=True)
class ReadItem:
    """What is known about the file of an item.

    Attributes:
        item: item.
        sha256: SHA-256 of the file, or None if it cannot be read.
        pictures: thumbnails of frames, uint8, [T, SIZE, SIZE]; T is 0 if the item is unusable.
        error: class of the failure, or None.
        message: description of the failure in one line, or None.
    """

    item: Item
    sha256: str | None
    pictures: NDArray[np.uint8]
    error: str | None = None
    message: str | None = None


def read_items(
    corpus: str, items: Sequence[Item], on_progress: Callable[[float, float], None]
) -> Iterator[ReadItem]:
    """Read the files of items in their order, each in the sandbox.

    Args:
        corpus: path or URL of the corpus.
        items: items to read.
        on_progress: callback with the number of finished items and the number of all items.
    """

    def read(chunk: Sequence[Item]) -> list[ReadItem]:
        sources = [ItemFile(item, corpus) for item in chunk]
        decoded, frames = decode_confined(sources, Uniform(NUM_FRAMES), DECODED_SIZE, _LIMITS)
        results, start = [], 0
        for item, outcome in zip(chunk, decoded, strict=True):
            end = start + len(outcome.times_s)
            pictures, start = thumbnails(frames[start:end]), end
            sha256 = outcome.state.sha256 if outcome.state else None
            rejection = outcome.rejection
            if rejection is None:
                results.append(ReadItem(item, sha256, pictures))
            else:
                results.append(ReadItem(item, sha256, pictures, rejection.error, rejection.message))
        return results

    done = 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        chunks = [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]
        for chunk in threads.map(read, chunks):
            yield from chunk
            done += len(chunk)
            on_progress(done, len(items))
