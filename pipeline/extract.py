"""Computation of the features of single files in this process, without Ray or a store."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.backbones import backbone_spec, open_backbone, prepare_backbone
from intertitle.pipeline.backbones.spec import seen_part
from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.endings import KNOWN_SUFFIXES
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import MAX_PIXELS, Limits
from intertitle.pipeline.decoding.sampling import Sampling, parse_sampling
from intertitle.pipeline.errors import FileError, UserError
from intertitle.pipeline.feature_store.fingerprint import check_computable, make_fingerprint
from intertitle.pipeline.importers.kinds import kind_of
from intertitle.pipeline.importers.walk import has_suffix, walk
from intertitle.pipeline.precompute.isolation.sandbox import decode_isolated
from intertitle.pipeline.storage.paths import normalized


@dataclass(frozen=True, slots=True)
class Reading:
    """Options for reading files that the user names.

    Attributes:
        max_pixels: maximum number of pixels of a picture or frame, width times height.
        animations_as_images: whether an animated GIF, WebP, PNG or AVIF is read as an image instead
            of a video.
        seconds: time limit for reading and decoding a file, in seconds.
    """

    max_pixels: int = MAX_PIXELS
    animations_as_images: bool = False
    seconds: float = Limits().seconds


DEFAULT_READING = Reading()
# For items of a store, which were already checked against the limits when it was made.
STORED = Reading(max_pixels=sys.maxsize)


def files_below(path: Path, follow_links: bool = False) -> tuple[list[Path], list[str]]:
    """Find the videos and images below a folder.

    Returns:
        The files, sorted by name, and a note in one line for each thing that was left out. If
        `path` is a file, only the file itself is returned.

    Raises:
        UserError: the folder contains no videos or images.
    """
    folder = normalized(path)
    if not folder.is_dir():
        return [path], []
    walked = walk(folder, follow_links)
    files = [path / file.name for file in walked.files if has_suffix(file.name)]
    files += [path / name for name in walked.broken if has_suffix(name)]
    notes = [f"{path}: {note}" for note in walked.notes()]
    if not files:
        known = " ".join(sorted(KNOWN_SUFFIXES))
        left_out = f" ({', '.join(walked.notes())})" if notes else ""
        raise UserError(f"{path}: no videos or images in it{left_out}, allowed: {known}")
    return sorted(files), notes


def features_of_file(
    features_json: str, reading: Reading = DEFAULT_READING
) -> Callable[[Path], NDArray[np.float32]]:
    """Return a function that computes the features of a file as a store's fingerprint specifies.

    The function takes a path and returns float32 [T, *shape]. It raises FileError for a file
    whose features cannot be computed.

    Args:
        features_json: description of the features, as `Fingerprint.features_json` returns it.
        reading: options for reading the files.

    Raises:
        UserError: this machine's backbone is not the one that computed the features, or the
            features were imported.
    """
    made_with = json.loads(features_json)
    check_computable(made_with["backbone"])
    spec = backbone_spec(made_with["backbone"], made_with["features"], made_with["weights_sha256"])
    sampling = parse_sampling(made_with["sampling"])
    current = make_fingerprint(spec, sampling, "arrow", "float32").features_json()
    if current != features_json:
        raise UserError(f"backbone: the model saw features of {features_json}, here are {current}")
    backbone = open_backbone(spec, os.cpu_count() or 1, prepare_backbone(spec, "float32"))

    def features(path: Path) -> NDArray[np.float32]:
        values = backbone(_frames(source_of_file(path, reading), sampling, spec.size, reading))
        if not np.isfinite(values).all():
            raise FileError("not_finite", f"{path}: its features are not finite")
        return values

    return features


def source_of_file(path: Path, reading: Reading = DEFAULT_READING) -> ItemFile:
    """Return a file as an item of a corpus, so that both are read in the same way.

    The key of the item is the path as given. Links are followed to any place, because the user may
    name any file.

    Raises:
        FileError: the file is neither a video nor an image.
    """
    real = normalized(path).resolve()
    item = Item(str(path), str(real), kind_of(path, real, reading.animations_as_images))
    return ItemFile(item, str(real.parent))


def frames_for(
    features_json: str, source: ItemFile, reading: Reading = DEFAULT_READING
) -> NDArray[np.uint8]:
    """Decode the frames from which the features of an item are computed, uint8 [T, H, W, 3].

    They are the part that the network takes; of a clip, it is the frame in the middle.

    Args:
        features_json: description of the features, as `Fingerprint.features_json` returns it.
        source: item to decode.
        reading: options for reading the item's file.

    Raises:
        UserError: the features were imported.
        FileError: the item cannot be decoded.
    """
    made_with = json.loads(features_json)
    check_computable(made_with["backbone"])
    sampling = parse_sampling(made_with["sampling"])
    frames = _frames(source, sampling, made_with["size"], reading)
    return seen_part(frames[sampling.window // 2 :: sampling.window], made_with["preprocessing"])


def _frames(source: ItemFile, sampling: Sampling, size: int, reading: Reading) -> NDArray[np.uint8]:
    limits = Limits(seconds=reading.seconds, max_pixels=reading.max_pixels)
    item, pixels = decode_isolated(source, sampling, size, limits)
    if item.rejection:
        message = item.rejection.message.replace(str(source.path), source.item.key)
        raise FileError(item.rejection.error, message)
    return pixels
