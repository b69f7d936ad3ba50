"""Features of single files, here and now: what `precompute` does to a corpus, without a cluster."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.backbone import backbone_spec, open_backbone, prepare_backbone
from pipeline.corpus import Item
from pipeline.decode import MAX_PIXELS
from pipeline.endings import KNOWN_SUFFIXES
from pipeline.errors import FileError, UserError
from pipeline.fingerprint import make_fingerprint
from pipeline.kinds import kind_of
from pipeline.limits import Limits
from pipeline.location import normalized
from pipeline.sampling import Sampling, parse_sampling
from pipeline.sandbox import examine
from pipeline.source import Source
from pipeline.walk import has_suffix, walk


@dataclass(frozen=True, slots=True)
class Reading:
    """How files that a person names are read.

    Attributes:
        max_pixels: of a picture or frame.
        animations_as_images: whether an animated GIF, WebP, PNG or AVIF is an image, not a video.
    """

    max_pixels: int = MAX_PIXELS
    animations_as_images: bool = False


DEFAULT_READING = Reading()
# What a store has was within the limits that it was made with.
STORED = Reading(max_pixels=sys.maxsize)


def files_below(path: Path, follow_links: bool = False) -> tuple[list[Path], list[str]]:
    """The videos and images below a folder, by name, and what was left out, a line each; of a file
    itself.

    Raises:
        UserError: the folder has none.
    """
    folder = normalized(path)
    if not folder.is_dir():
        return [path], []
    found = walk(folder, follow_links)
    files = [path / file.name for file in found.files if has_suffix(file.name)]
    files += [path / name for name in found.broken if has_suffix(name)]
    notes = [f"{path}: {note}" for note in found.notes()]
    if not files:
        known = " ".join(sorted(KNOWN_SUFFIXES))
        left_out = f" ({', '.join(found.notes())})" if notes else ""
        raise UserError(f"{path}: no videos or images in it{left_out}, allowed: {known}")
    return sorted(files), notes


def features_of_file(
    features_json: str, reading: Reading = DEFAULT_READING
) -> Callable[[Path], NDArray[np.float32]]:
    """A function that makes features as a store's fingerprint says: file -> [T, *shape].

    The function raises FileError for a file that has none.

    Args:
        features_json: from `Fingerprint.features_json`.
        reading: how the files are read.

    Raises:
        UserError: this machine's backbone is not the one the features were made with.
    """
    made_with = json.loads(features_json)
    spec = backbone_spec(made_with["backbone"], made_with["features"], made_with["weights_sha256"])
    sampling = parse_sampling(made_with["sampling"])
    here = make_fingerprint(spec, sampling, "arrow", "float32").features_json()
    if here != features_json:
        raise UserError(f"backbone: the model saw features of {features_json}, here are {here}")
    backbone = open_backbone(spec, os.cpu_count() or 1, prepare_backbone(spec, "float32"))

    def features(path: Path) -> NDArray[np.float32]:
        values = backbone(_frames(source_of_file(path, reading), sampling, spec.size, reading))
        if not np.isfinite(values).all():
            raise FileError("not_finite", f"{path}: its features are not finite")
        return values

    return features


def source_of_file(path: Path, reading: Reading = DEFAULT_READING) -> Source:
    """A file as an item of a corpus, so that both are read alike; its key is the path as given.

    A person may name any file: a link is read wherever it leads to.

    Raises:
        FileError: it is neither a video nor an image.
    """
    real = normalized(path).resolve()
    item = Item(str(path), str(real), kind_of(path, real, reading.animations_as_images))
    return Source(item, str(real.parent))


def frames_for(
    features_json: str, source: Source, reading: Reading = DEFAULT_READING
) -> NDArray[np.uint8]:
    """What features of an item are made from: frames, uint8 [T, H, W, 3].

    Args:
        features_json: from `Fingerprint.features_json`.
        source: the item.
        reading: how its file is read.

    Raises:
        FileError: it can't be decoded.
    """
    made_with = json.loads(features_json)
    return _frames(source, parse_sampling(made_with["sampling"]), made_with["size"], reading)


def _frames(source: Source, sampling: Sampling, size: int, reading: Reading) -> NDArray[np.uint8]:
    item, pixels = examine(source, sampling, size, Limits(max_pixels=reading.max_pixels))
    if item.rejection:
        message = item.rejection.message.replace(str(source.path), source.item.key)
        raise FileError(item.rejection.error, message)
    return pixels
