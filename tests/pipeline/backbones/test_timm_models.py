"""Networks of timm, tiny and with random weights: downloads are not tested, all else is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from intertitle.pipeline.backbones import (
    backbone_spec,
    open_backbone,
    precision,
    prepare_backbone,
    timm_models,
)
from intertitle.pipeline.backbones.torch_runtime import TorchBackbone
from intertitle.pipeline.errors import UserError

timm = timm_models._import_timm()

SIZE = 160
COARSE = np.random.default_rng(0).integers(0, 256, (5, 10, 10, 3))
FRAMES = np.kron(COARSE, np.ones((1, 16, 16, 1))).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, onnx_cache: Path) -> Path:
    """Weights of timm's `test_resnet`, which has a grid of 5 x 5 x 96."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), file)
    return file


def features(name: str, kind: str) -> np.ndarray:
    spec = backbone_spec(name, kind)
    given = TorchBackbone(spec, timm_models.make_network(spec, None))(FRAMES)
    assert given.shape == (len(FRAMES), *spec.shape)
    return given


def test_onnx_runtime_gives_the_features_of_pytorch(weights: Path) -> None:
    spec = backbone_spec(f"timm:test_resnet,weights={weights}", "grid")
    assert (spec.size, spec.shape) == (SIZE, (25, 96))
    expected = features(f"timm:test_resnet,weights={weights}", "grid")
    given = open_backbone(spec, 2, prepare_backbone(spec, "float32"))(FRAMES)
    assert np.abs(given - expected).max() < 1e-4 * np.abs(expected).max()


def test_bfloat16_is_near_float32(weights: Path) -> None:
    name = f"timm:test_resnet,weights={weights}"
    spec = backbone_spec(name, "grid")
    assert precision(spec, gpu=True) == "bfloat16"
    half = open_backbone(spec, 2, prepare_backbone(spec, "bfloat16"))(FRAMES)
    expected = features(name, "grid")
    assert half.dtype == np.float32
    assert 0 < np.abs(half - expected).max() < 3e-2 * np.abs(expected).max()


def test_it_gives_what_timm_gives_pictures_scaled_as_it_says(weights: Path) -> None:
    model = timm.create_model("test_resnet").eval()
    model.load_state_dict(safetensors.torch.load_file(weights))
    settings = timm.data.resolve_model_data_config(model)
    scaled = (FRAMES / 255 - settings["mean"]) / settings["std"]
    images = torch.from_numpy(scaled.astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        grid = model.forward_features(images).numpy()
        pooled = model.forward_head(torch.from_numpy(grid), pre_logits=True).numpy()
    name = f"timm:test_resnet,weights={weights}"
    expected = grid.reshape(5, 96, 25).transpose(0, 2, 1)
    assert np.allclose(features(name, "grid"), expected, atol=1e-4)
    assert np.allclose(features(name, "pooled"), pooled, atol=1e-4)
    at_layer = name.replace("resnet", "resnet@layer4")
    assert np.allclose(features(at_layer, "grid"), expected, atol=1e-4)


def test_a_layer_is_taken_before_the_next_writes_over_it(weights: Path) -> None:
    # A ReLU in place follows: its output has nothing below zero.
    name = f"timm:test_resnet@layer4.0.bn1,weights={weights}"
    assert features(name, "grid").min() < 0


def test_the_fingerprint_of_a_layer_of_tokens_names_the_layer(onnx_cache: Path) -> None:
    torch.manual_seed(0)
    file = onnx_cache / "vit.safetensors"
    safetensors.torch.save_file(timm.create_model("test_vit").state_dict(), file)
    spec = backbone_spec(f"timm:test_vit@blocks.0,weights={file}", "grid")
    assert spec.preprocessing.endswith("; output of blocks.0")


def test_fc7_of_a_vgg_is_its_second_layer_after_the_relu(onnx_cache: Path) -> None:
    torch.manual_seed(0)
    model = timm.models.vgg.VGG([8, "M"] * 5).eval()
    parsed = timm_models._Name("vgg16", "fc7", None)
    model.pretrained_cfg = {"input_size": (3, SIZE, SIZE), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    network = timm_models._assemble(parsed, model, "pooled").network
    frames = torch.from_numpy(FRAMES[:1])
    with torch.inference_mode():
        images = (frames.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        expected = model.pre_logits(model.forward_features(images)).flatten(1)
        given = network(frames)
    assert given.shape == (1, 4096) and given.min() == 0
    assert torch.allclose(given, expected, atol=1e-5)


def test_local_weights_are_found_again_by_their_hash(weights: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    spec = backbone_spec(f"timm:test_resnet@pool,weights={moved}")
    assert spec.name == "timm:test_resnet,weights=moved.safetensors"
    moved.unlink()
    assert backbone_spec(spec.name, "pooled", spec.weights_sha256) == spec
    with pytest.raises(UserError, match=r"not on this machine; copy weights-0+\.safetensors"):
        backbone_spec(spec.name, "pooled", "0" * 64)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:", r"allowed: timm:NAME\[@LAYER\]"),
        ("timm:resnot50", "timm has no network 'resnot50', nearest: .*resnet"),
        ("timm:hf-hub:someone/something", "timm has no network"),
        ("timm:test_resnet@layer9,weights={}", "no layer 'layer9', allowed: .*layer4"),
        ("timm:test_vit,weights={}", "not weights of it"),
        ("timm:test_resnet,weights=none", "'none': no such file"),
        ("timm:test_resnet@fc,weights={}", r"gives \[1, 1000\], allowed .*'grid'"),
    ],
)
def test_what_it_is_not_is_refused(name: str, message: str, weights: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        backbone_spec(name.format(weights), "grid")
    assert "\n" not in str(error.value)


def test_a_network_without_a_grid_is_refused(onnx_cache: Path) -> None:
    # Its features are the class token alone.
    parsed = timm_models._Name("pit_ti_224", None, None)
    model = timm.create_model("pit_ti_224").eval()
    body = timm_models._assemble(parsed, model, "grid").network.body
    with pytest.raises(UserError, match=r"gives \[1, 1, 256\], allowed for features 'grid'"):
        timm_models._shape(parsed, model, body(torch.zeros(1, 3, 224, 224)), "grid")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match=r"trap\.pth: not weights of it"):
        backbone_spec(f"timm:test_resnet,weights={tmp_path}/trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_weights_that_cannot_be_downloaded_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(UserError, match="timm:test_resnet: its weights are not to be had") as error:
        backbone_spec("timm:test_resnet")
    assert "\n" not in str(error.value)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'intertitle\[timm\]'"):
        backbone_spec("timm:resnet50")
