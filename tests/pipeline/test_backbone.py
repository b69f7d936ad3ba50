"""The network: the same features in ONNX Runtime as in PyTorch, alone as in company."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import pipeline.backbone
from pipeline.backbone import BATCH, OnnxBackbone, TorchBackbone, backbone_spec, onnx_model
from pipeline.corpus import Corpus
from pipeline.decode import decode
from pipeline.errors import UserError
from pipeline.sampling import Uniform

SPEC = backbone_spec("efficientnet_lite0")


@pytest.fixture(scope="module")
def model(onnx_cache: Path) -> bytes:
    return onnx_model(SPEC)


@pytest.fixture(scope="module")
def frames(clips: Path) -> np.ndarray:
    """More frames than go into one call."""
    corpus = Corpus(clips)
    shown = [decode(corpus.locate(i), i, Uniform(8), SPEC.size) for i in corpus.items()[:5]]
    return np.concatenate([frames.pixels for frames in shown])


@pytest.fixture(scope="module")
def features(model: bytes, frames: np.ndarray) -> np.ndarray:
    return OnnxBackbone(model, num_threads=2)(frames)


def test_onnx_runtime_gives_the_features_of_pytorch(
    features: np.ndarray, frames: np.ndarray
) -> None:
    assert len(frames) > BATCH
    expected = TorchBackbone()(frames)
    assert features.shape == expected.shape == (len(frames), SPEC.dim)
    assert features.dtype == expected.dtype == np.float32
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_frame_has_the_same_features_alone_and_with_any_number_of_threads(
    model: bytes, features: np.ndarray, frames: np.ndarray
) -> None:
    one_thread, two_threads = OnnxBackbone(model, 1), OnnxBackbone(model, 2)
    assert np.array_equal(one_thread(frames), features)
    for index in (0, BATCH - 1, BATCH, len(frames) - 1):
        assert np.array_equal(two_threads(frames[index : index + 1])[0], features[index])


def test_frames_that_look_alike_have_features_that_are_alike(features: np.ndarray) -> None:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = unit @ unit.T
    clip = np.arange(len(features)) // 8
    neighbours = [likeness[i, i + 1] for i in range(len(clip) - 1) if clip[i] == clip[i + 1]]
    assert np.mean(neighbours) > likeness[clip[:, None] != clip].mean() + 0.05


def test_the_export_is_made_once_and_kept(
    model: bytes, onnx_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(pipeline.backbone, "_export")
    assert onnx_model(SPEC) == model
    assert [file.suffix for file in (onnx_cache / "intertitle").iterdir()] == [".onnx"]


def test_its_name_stands_for_the_weights_in_use() -> None:
    weights = pipeline.backbone._weights_file().read_bytes()
    assert SPEC.weights_sha256 == hashlib.sha256(weights).hexdigest()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"backbone: 'vgg', allowed: efficientnet_lite0"):
        backbone_spec("vgg")
