"""Frames, features and thumbnails of items and of new files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from intertitle.pipeline.corpus import Corpus, items_of
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.endings import ending_for
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.errors import FileError
from intertitle.pipeline.extract import DEFAULT_READING as DEFAULT_READING
from intertitle.pipeline.extract import STORED, features_of_file, frames_for, source_of_file
from intertitle.pipeline.extract import Reading as Reading
from intertitle.pipeline.inspection.preview.thumbnails import HEIGHT, filmstrip, filmstrip_of
from intertitle.training.data.arrays.joined_stores import join
from intertitle.training.data.data_ref import Data, FeatureRef

# Number of bytes that the format of a file is recognised by.
_HEAD_BYTES = 4096


def feature_extractor(
    sources: Sequence[FeatureRef], reading: Reading = DEFAULT_READING
) -> Callable[[Path], NDArray[np.float32]]:
    """Return a function that computes the features of a new file as for the training data.

    The function returns [T, D] or [T, cells, D], for all stores of the training together.

    Raises:
        UserError: the features can't be computed on this machine.
        FileError: raised by the returned function: the file can't be read.
    """
    extractors = [features_of_file(source.fingerprint, reading) for source in sources]

    def features(file: Path) -> NDArray[np.float32]:
        parts = [extract(file) for extract in extractors]
        if len({len(part) for part in parts}) > 1:
            numbers = ", ".join(str(len(part)) for part in parts)
            raise FileError("frames", f"{file}: {numbers} frames for the stores, need as many")
        return join(parts)

    return features


def frames_of(
    sources: Sequence[FeatureRef], file: Path, reading: Reading = DEFAULT_READING
) -> NDArray[np.uint8]:
    """Return the frames that the features of a new file are computed from, [T, H, W, 3].

    They are those of the first store.

    Raises:
        FileError: the file can't be decoded.
    """
    return frames_for(sources[0].fingerprint, source_of_file(file, reading), reading)


def write_item(content: bytes, path: Path) -> Path:
    """Write the bytes of a video or image to a file with the extension of its format.

    Args:
        content: bytes of the file.
        path: path of the file without an extension.

    Returns:
        The path with the extension.

    Raises:
        ProbeError: the bytes are neither a video nor an image.
    """
    file = path.with_name(f"{path.name}{ending_for(content[:_HEAD_BYTES])}")
    file.write_bytes(content)
    return file


@dataclass(frozen=True, slots=True)
class ItemView:
    """The input of a model for one item.

    Attributes:
        features: features, [T, D] or [T, cells, D].
        frames: frames that the features were computed from, uint8, [T, H, W, 3].
    """

    features: NDArray[np.float32]
    frames: NDArray[np.uint8]


def item_views(data: Data, item_keys: Collection[str]) -> dict[str, ItemView]:
    """Return the features and frames of items, by key.

    Items whose file can't be read in the same way as before are missing, as are all items if the
    features were imported.

    Args:
        data: data with features.
        item_keys: keys of items that have features.
    """
    assert data.features is not None
    if data.features.stores[0].snapshot.fingerprint.is_external:
        return {}
    fingerprint = data.ref.features[0].fingerprint
    views = {}
    for source in _item_files(data.corpus, item_keys):
        with contextlib.suppress(FileError):
            features = data.features.features(source.item.key)
            frames = frames_for(fingerprint, source, STORED)
            if len(frames) == len(features):
                views[source.item.key] = ItemView(features, frames)
    return views


def thumbnails_of(
    corpus: Corpus, item_keys: Collection[str], views: Mapping[str, ItemView] | None = None
) -> dict[str, bytes]:
    """Return thumbnails of items, for tables that people read.

    Args:
        corpus: corpus of the items.
        item_keys: keys of the items.
        views: items that are already decoded, by key.

    Returns:
        JPEG files by key: frames next to each other, or the image. Items that can't be read are
        missing.
    """
    thumbnails = {}
    for source in _item_files(corpus, item_keys):
        key = source.item.key
        view = views.get(key) if views else None
        with contextlib.suppress(DecodeError):
            if view is not None and view.frames.shape[1] >= HEIGHT:
                thumbnails[key] = filmstrip_of(view.frames)
            else:
                thumbnails[key] = filmstrip(source)
    return thumbnails


def _item_files(corpus: Corpus, item_keys: Collection[str]) -> list[ItemFile]:
    table = corpus.item_table()
    keys = pa.array(sorted(item_keys), pa.string())
    chosen = table.filter(pc.is_in(table["key"], value_set=keys))
    return [ItemFile(item, str(corpus.path)) for item in items_of(chosen)]
