"""Features of single files, here and now: what `precompute` does to a corpus, without a cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.backbone import Backbone, OnnxBackbone, backbone_spec, onnx_model
from pipeline.corpus import Item, Kind
from pipeline.decode import IMAGE_SUFFIXES, VIDEO_SUFFIXES, DecodeError, decode
from pipeline.errors import UserError
from pipeline.fingerprint import make_fingerprint
from pipeline.sampling import parse_sampling
from pipeline.source import file_state


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


def features_of_file(features_json: str) -> Callable[[Path], NDArray[np.float32]]:
    """A function that makes features as a store's fingerprint says: file -> [T, D].

    The function raises UserError for a file that can't be decoded.

    Args:
        features_json: from `Fingerprint.features_json`.

    Raises:
        UserError: this machine's backbone is not the one the features were made with.
    """
    made_with = json.loads(features_json)
    spec = backbone_spec(made_with["backbone"])
    sampling = parse_sampling(made_with["sampling"])
    here = make_fingerprint(spec, sampling, format="arrow").features_json()
    if here != features_json:
        raise UserError(f"backbone: the model saw features of {features_json}, here are {here}")
    backbone: Backbone = OnnxBackbone(onnx_model(spec), os.cpu_count() or 1)

    def features(path: Path) -> NDArray[np.float32]:
        item = Item(str(path), str(path), kind_of(path))
        try:
            file_state(path)
            frames = decode(path, item, sampling, spec.size)
        except DecodeError as error:
            raise UserError(error.message) from error
        return backbone(frames.pixels)

    return features
