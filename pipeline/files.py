"""Features of single files, here and now: what `precompute` does to a corpus, without a cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.backbone import backbone_spec, open_backbone, prepare_backbone
from pipeline.corpus import Item, Kind
from pipeline.decode import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from pipeline.errors import FileError, UserError
from pipeline.fingerprint import make_fingerprint
from pipeline.limits import Limits
from pipeline.sampling import Sampling, parse_sampling
from pipeline.sandbox import examine
from pipeline.source import Source


def kind_of(path: Path) -> Kind:
    """Whether a file is a video or an image, by its ending.

    Raises:
        FileError: it is neither.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in IMAGE_SUFFIXES:
        return "image"
    known = " ".join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
    raise FileError("unreadable", f"{path}: ending {path.suffix!r}, allowed: {known}")


def files_below(path: Path) -> list[Path]:
    """The videos and images below a folder, by name; of a file itself.

    Raises:
        UserError: the folder has none.
    """
    if not path.is_dir():
        return [path]
    known = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in known and p.is_file())
    if not files:
        raise UserError(f"{path}: no videos or images in it, allowed: {' '.join(sorted(known))}")
    return files


def features_of_file(features_json: str) -> Callable[[Path], NDArray[np.float32]]:
    """A function that makes features as a store's fingerprint says: file -> [T, *shape].

    The function raises FileError for a file that has none.

    Args:
        features_json: from `Fingerprint.features_json`.

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
        values = backbone(_frames(source_of_file(path), sampling, spec.size))
        if not np.isfinite(values).all():
            raise FileError("not_finite", f"{path}: its features are not finite")
        return values

    return features


def source_of_file(path: Path) -> Source:
    """A file as an item of a corpus, so that both are read alike; its key is the path as given.

    Raises:
        FileError: it is neither a video nor an image.
    """
    item = Item(str(path), str(path.absolute()), kind_of(path))
    return Source(item, str(path.absolute().parent))


def frames_for(features_json: str, source: Source) -> NDArray[np.uint8]:
    """What features of an item are made from: frames, uint8 [T, H, W, 3].

    Args:
        features_json: from `Fingerprint.features_json`.
        source: the item.

    Raises:
        FileError: it can't be decoded.
    """
    made_with = json.loads(features_json)
    return _frames(source, parse_sampling(made_with["sampling"]), made_with["size"])


def _frames(source: Source, sampling: Sampling, size: int) -> NDArray[np.uint8]:
    item, pixels = examine(source, sampling, size, Limits())
    if item.rejection:
        message = item.rejection.message.replace(str(source.path), source.item.key)
        raise FileError(item.rejection.error, message)
    return pixels
