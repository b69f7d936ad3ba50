"""Video networks of torchvision, with random weights, against torchvision's own features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from intertitle.pipeline.backbones import backbone_spec, open_backbone, prepare_backbone
from intertitle.pipeline.backbones.pretrained import torchvision_models
from intertitle.pipeline.backbones.pretrained.torchvision_models import WINDOW
from intertitle.pipeline.backbones.torch_runtime import TorchBackbone
from intertitle.pipeline.corpus import Corpus, Item, write_corpus
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.extract import features_of_file
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.precompute.options import PrecomputeOptions
from intertitle.pipeline.precompute.run import precompute
from intertitle.testing import check_backbone

torchvision = torchvision_models._import_torchvision()


def write_weights(model: str, folder: Path, ending: str) -> tuple[str, torch.nn.Module]:
    """Write random weights of a network; return the name of the backbone, and the network."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(model, weights=None).eval()
    file = folder / f"{model}.{ending}"
    if ending == "pth":
        torch.save(network.state_dict(), file)
    else:
        safetensors.torch.save_file(network.state_dict(), file)
    return f"torchvision:{model},weights={file}", network


def clips_of(num: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num * WINDOW, size, size, 3), np.uint8)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network take the central 32 x 32 pixels, so that a test takes seconds."""
    settings = torchvision.transforms._presets.VideoClassification
    transform = settings(crop_size=(32, 32), resize_size=(128, 171))
    monkeypatch.setattr(torchvision_models, "_settings", lambda _: transform)


def expected_features(network: torch.nn.Module, frames: np.ndarray, crop: int) -> np.ndarray:
    """Return the input of the classifier for clips that torchvision's transform has prepared."""
    clips = torch.from_numpy(frames).reshape(-1, WINDOW, *frames.shape[1:]).permute(0, 1, 4, 2, 3)
    prepare = torchvision.transforms._presets.VideoClassification(
        crop_size=(crop, crop), resize_size=tuple(frames.shape[1:3])
    )
    inputs: list[torch.Tensor] = []
    classifier = network.fc if hasattr(network, "fc") else network.classifier
    classifier.register_forward_hook(lambda *call: inputs.append(call[1][0]))
    with torch.inference_mode():
        network(prepare(clips))
    return inputs[0].flatten(1).numpy()


def test_a_network_of_clips_holds_the_laws(small: None, tmp_path: Path, onnx_cache: Path) -> None:
    check_backbone(write_weights("mc3_18", tmp_path, "pth")[0])


def test_r2plus1d_is_the_same_in_pytorch_in_onnx_runtime_and_in_a_store(
    small: None, tmp_path: Path, clips: Path, onnx_cache: Path, ray_cluster: None
) -> None:
    name, network = write_weights("r2plus1d_18", tmp_path, "pth")
    spec = backbone_spec(name)
    assert (spec.size, spec.shape, spec.window) == (128, (512,), WINDOW)
    frames = clips_of(2, spec.size)
    expected = expected_features(network, frames, 32)
    in_torch = TorchBackbone(spec, torchvision_models.make_network(spec, None))(frames)
    in_onnx = open_backbone(spec, 2, prepare_backbone(spec, "float32"))(frames)
    assert in_torch.shape == (2, 512)
    assert np.abs(in_torch - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(in_onnx - expected).max() < 1e-4 * np.abs(expected).max()

    items = [replace(item, uri=str(clips / item.uri)) for item in Corpus(clips).items()[:3]]
    corpus = write_corpus(tmp_path / "corpus", items, [])
    report = precompute(corpus, tmp_path / "store", PrecomputeOptions(name, Uniform(2)))
    store = FeatureStore(tmp_path / "store")
    assert report.stored == len(corpus.items())
    assert store.snapshot.fingerprint.sampling == "uniform:2x16"
    item: Item = next(item for item in corpus.items() if item.kind == "video")
    stored = store.read(item.key)
    assert stored.values.shape == (2, 512) and (np.diff(stored.times_s) > 0).all()
    made = make_fingerprint(spec, Uniform(2, WINDOW), "arrow", "float32").features_json()
    assert np.allclose(features_of_file(made)(corpus.locate(item)), stored.values, atol=1e-4)


def test_s3d_gives_the_input_of_its_classifier(tmp_path: Path, onnx_cache: Path) -> None:
    name, network = write_weights("s3d", tmp_path, "safetensors")
    spec = backbone_spec(name)
    assert (spec.size, spec.shape) == (256, (1024,))
    assert spec.preprocessing == (
        "RGB, clips of 16 frames, central 224 x 224, x / 255, mean (0.43216, 0.394666, 0.37645), "
        "standard deviation (0.22803, 0.22145, 0.216989), trained on bilinear pictures; "
        "the input of the classifier"
    )
    frames = clips_of(1, spec.size)
    given = TorchBackbone(spec, torchvision_models.make_network(spec, None))(frames)
    expected = expected_features(network, frames, 224)
    assert np.abs(given - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "features", "message"),
    [
        ("torchvision:resnet50", "pooled", "allowed: torchvision:mc3_18, torchvision:r2plus1d_18"),
        ("torchvision:s3d", "grid", "features: 'grid', allowed for torchvision:s3d: pooled"),
        ("torchvision:s3d,weights=none", "pooled", "'none': no such file"),
        ("torchvision:s3d,weights={}", "pooled", "not weights of it"),
    ],
)
def test_what_it_is_not_is_refused(name: str, features: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=message) as error:
        backbone_spec(name.format(file), features)
    assert "\n" not in str(error.value)


def test_weights_that_cannot_be_downloaded_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(UserError, match="torchvision:s3d: its weights are not to be had") as error:
        backbone_spec("torchvision:s3d")
    assert "\n" not in str(error.value)
