"""The networks that come with the project: the same features in ONNX Runtime as in PyTorch."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.backbones import (
    BATCH,
    PreparedModel,
    backbone_spec,
    efficientnet,
    open_backbone,
    precision,
    prepare_backbone,
)
from intertitle.pipeline.backbones.onnx_runtime import OnnxBackbone
from intertitle.pipeline.backbones.torch_runtime import TorchBackbone
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.decode import decode
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import UserError

SPEC = backbone_spec("efficientnet_lite0")
GRID = backbone_spec("efficientnet_lite0", "grid")


@pytest.fixture(scope="module")
def model(onnx_cache: Path) -> PreparedModel:
    return prepare_backbone(SPEC, "float32")


@pytest.fixture(scope="module")
def frames(clips: Path) -> np.ndarray:
    """More frames than go into one call."""
    corpus = Corpus(clips)
    items = list(corpus.items())[:5]
    shown = [decode(corpus.locate(i), i, Uniform(8), SPEC.size) for i in items]
    return np.concatenate([frames.pixels for frames in shown])


@pytest.fixture(scope="module")
def features(model: PreparedModel, frames: np.ndarray) -> np.ndarray:
    return open_backbone(SPEC, 2, model)(frames)


@pytest.fixture(scope="module")
def grid(frames: np.ndarray) -> np.ndarray:
    return TorchBackbone(GRID, efficientnet.make_network(GRID, None))(frames)


def test_onnx_runtime_gives_the_features_of_pytorch(
    features: np.ndarray, frames: np.ndarray
) -> None:
    assert len(frames) > BATCH
    expected = TorchBackbone(SPEC, efficientnet.make_network(SPEC, None))(frames)
    assert features.shape == expected.shape == (len(frames), *SPEC.shape)
    assert features.dtype == expected.dtype == np.float32
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_pooled_features_are_the_mean_of_the_grid(
    features: np.ndarray, grid: np.ndarray, frames: np.ndarray
) -> None:
    assert grid.shape == (len(frames), 49, 1280) == (len(frames), *GRID.shape)
    assert np.abs(grid.mean(1) - features).max() < 1e-5 * np.abs(features).max()


def test_a_cell_of_the_grid_sees_its_part_of_the_picture(frames: np.ndarray) -> None:
    backbone = TorchBackbone(GRID, efficientnet.make_network(GRID, None))
    changed = frames[:1].copy()
    changed[:, :32, -32:] ^= 255
    difference = np.abs(backbone(changed) - backbone(frames[:1]))[0].sum(-1).reshape(7, 7)
    assert np.unravel_index(difference.argmax(), (7, 7))[0] <= 1
    assert np.unravel_index(difference.argmax(), (7, 7))[1] >= 5


def test_a_frame_has_the_same_features_alone_and_with_any_number_of_threads(
    model: PreparedModel, features: np.ndarray, frames: np.ndarray
) -> None:
    one_thread, two_threads = (OnnxBackbone(SPEC, model.data, n) for n in (1, 2))
    assert np.array_equal(one_thread(frames), features)
    for index in (0, BATCH - 1, BATCH, len(frames) - 1):
        assert np.array_equal(two_threads(frames[index : index + 1])[0], features[index])


ON_A_CPU = """
import sys
import numpy as np
import intertitle.pipeline.precompute.scheduling.scheduler
from intertitle.pipeline.backbones import BackboneSpec, PreparedModel, open_backbone
spec = BackboneSpec("efficientnet_lite0", "pooled", 224, (1280,), "", "")
model = PreparedModel("float32", open(sys.argv[1], "rb").read())
print(open_backbone(spec, 1, model)(np.zeros((1, 224, 224, 3), np.uint8)).shape)
print(sorted({"torch", "onnx", "timm"} & {*sys.modules}))
"""


def test_what_decodes_or_computes_on_a_cpu_never_loads_pytorch(
    model: PreparedModel, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(model.data)
    command = [sys.executable, "-c", ON_A_CPU, tmp_path / "model.onnx"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told.splitlines() == ["(1, 1280)", "[]"]


def test_no_frames_have_no_features(model: PreparedModel, frames: np.ndarray) -> None:
    assert open_backbone(SPEC, 1, model)(frames[:0]).shape == (0, 1280)


def test_frames_that_look_alike_have_features_that_are_alike(features: np.ndarray) -> None:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = unit @ unit.T
    clip = np.arange(len(features)) // 8
    neighbours = [likeness[i, i + 1] for i in range(len(clip) - 1) if clip[i] == clip[i + 1]]
    assert np.mean(neighbours) > likeness[clip[:, None] != clip].mean() + 0.05


def test_a_gpu_computes_in_what_the_network_bears(features: np.ndarray, frames: np.ndarray) -> None:
    in_half = precision(SPEC, gpu=True)
    assert (in_half, precision(SPEC, gpu=False)) == ("float16", "float32")
    prepared = prepare_backbone(SPEC, in_half)
    half = open_backbone(SPEC, 2, prepared)(frames[::4])
    assert half.dtype == np.float32
    difference = np.linalg.norm(half - features[::4]) / np.linalg.norm(features[::4])
    assert 0 < difference < 3e-2


def test_the_export_is_made_once_and_kept(
    model: PreparedModel, onnx_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("intertitle.pipeline.backbones.export.export")
    assert prepare_backbone(SPEC, "float32") == model
    assert not list((onnx_cache / "intertitle").glob("*.writing"))


@pytest.mark.parametrize(
    ("name", "size", "cells"),
    [
        ("efficientnet_lite0", 224, 49),
        ("efficientnet_lite1", 240, 64),
        ("efficientnet_lite2", 260, 81),
    ],
)
def test_a_specification_is_what_the_network_gives(name: str, size: int, cells: int) -> None:
    spec = backbone_spec(name, "grid")
    weights = efficientnet.weights_file(name).read_bytes()
    assert spec.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert (spec.size, spec.shape) == (size, (cells, 1280))
    assert backbone_spec(name).shape == (1280,)
    black = np.zeros((1, size, size, 3), np.uint8)
    given = TorchBackbone(spec, efficientnet.make_network(spec, None))(black)
    assert given.shape == (1, *spec.shape)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"backbone: 'vgg', allowed: efficientnet_lite0.* onnx:"):
        backbone_spec("vgg")
    with pytest.raises(UserError, match="features: 'best', allowed: pooled, grid"):
        backbone_spec("efficientnet_lite0", "best")
