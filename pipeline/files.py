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
from pipeline.decode import IMAGE_SUFFIXES, VIDEO_SUFFIXES, DecodeError, Frames, decode
from pipeline.errors import UserError
from pipeline.fingerprint import make_fingerprint
from pipeline.sampling import Sampling, parse_sampling
from pipeline.source import Source, opened


def kind_of(path: Path) -> Kind:
    """Whether a file is a video or an image, by its ending.

    Raises:
        UserError: it is neither.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in IMAGE_SUFFIXES:
        return "image"
    known = " ".join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
    raise UserError(f"{path}: ending {path.suffix!r}, allowed: {known}")


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

    The function raises UserError for a file that can't be decoded.

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
    return lambda path: backbone(_decoded(path, sampling, spec.size).pixels)


def frames_of_file(features_json: str, path: Path) -> NDArray[np.uint8]:
    """What features of a file are made from: frames, uint8 [T, H, W, 3].

    Args:
        features_json: from `Fingerprint.features_json`.
        path: of a video or an image.

    Raises:
        UserError: it can't be decoded.
    """
    made_with = json.loads(features_json)
    spec = backbone_spec(made_with["backbone"], made_with["features"], made_with["weights_sha256"])
    return _decoded(path, parse_sampling(made_with["sampling"]), spec.size).pixels


def _decoded(path: Path, sampling: Sampling, size: int) -> Frames:
    item = Item(str(path), str(path.absolute()), kind_of(path))
    try:
        with opened(Source(item, str(path.absolute().parent))) as (file, _):
            return decode(file, item, sampling, size)
    except DecodeError as error:
        raise UserError(error.message) from error
