"""Image encoders of open_clip, tiny and with random weights, against open_clip's own features."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from intertitle.pipeline.backbones import backbone_spec, open_backbone, prepare_backbone
from intertitle.pipeline.backbones.base import weights_to_bytes
from intertitle.pipeline.backbones.pretrained import open_clip_models
from intertitle.pipeline.backbones.torch_runtime import TorchBackbone
from intertitle.pipeline.errors import UserError

open_clip = open_clip_models._import_open_clip()

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, onnx_cache: Path) -> Path:
    """Weights of the model `tiny-for-tests`, which open_clip then knows."""
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "tiny-for-tests.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "tiny-for-tests.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-for-tests")
    torch.save(model.state_dict(), folder / "tiny.pt")
    return folder / "tiny.pt"


def test_features_are_those_of_open_clip_in_pytorch_and_in_onnx_runtime(weights: Path) -> None:
    name = f"open_clip:tiny-for-tests,weights={weights}"
    model, _, transform = open_clip.create_model_and_transforms(
        "tiny-for-tests", pretrained=str(weights)
    )

    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    images = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
    model.eval()
    model.visual.output_tokens = True
    with torch.inference_mode():
        pooled, tokens = model.visual(images)
    for kind, expected in (("pooled", pooled), ("grid", tokens)):
        spec = backbone_spec(name, kind)
        assert (spec.size, spec.shape) == (64, tuple(expected.shape[1:]))
        in_torch = TorchBackbone(spec, open_clip_models.make_network(spec, None))(frames)
        in_onnx = open_backbone(spec, 2, prepare_backbone(spec, "float32"))(frames)
        assert np.abs(in_torch - expected.numpy()).max() < 1e-5
        assert np.abs(in_onnx - expected.numpy()).max() < 1e-5


@pytest.fixture
def tags(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tags of the tiny model, with the same weights and different normalisation."""
    normalisation = {"siglip": [0.5] * 3, "plain": [0.0] * 3}
    tags = {
        tag: {"url": tag, "mean": mean, "std": [0.5] * 3, "interpolation": "bicubic"}
        for tag, mean in normalisation.items()
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-for-tests", tags)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(weights))


@pytest.mark.usefixtures("tags")
def test_given_weights_are_normalised_as_those_of_the_tag(weights: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    spec = backbone_spec("open_clip:tiny-for-tests/siglip")
    assert "mean (0.5, 0.5, 0.5), standard deviation (0.5, 0.5, 0.5)" in spec.preprocessing
    network = open_clip_models.make_network(spec, None)
    sent = open_clip_models.make_network(spec, weights_to_bytes(network))
    expected = TorchBackbone(spec, network)(frames)
    assert np.array_equal(TorchBackbone(spec, sent)(frames), expected)
    of_file = backbone_spec(f"open_clip:tiny-for-tests/siglip,weights={weights}")
    local = open_clip_models.make_network(of_file, None)
    assert np.array_equal(TorchBackbone(of_file, local)(frames), expected)


@pytest.mark.usefixtures("tags")
def test_a_file_of_weights_that_may_be_normalised_in_two_ways_needs_a_tag(weights: Path) -> None:
    allowed = "open_clip:tiny-for-tests/siglip,weights=FILE or open_clip:tiny-for-tests/plain,"
    with pytest.raises(UserError, match=f"one of their tags with the file, {allowed}"):
        backbone_spec(f"open_clip:tiny-for-tests,weights={weights}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("open_clip:", r"allowed: open_clip:NAME\[/TAG\]"),
        ("open_clip:ViT-B-3", "open_clip has no model 'ViT-B-3', nearest: .*ViT-B-32"),
        ("open_clip:hf-hub:someone/something", "open_clip has no model"),
        ("open_clip:ViT-B-32", "allowed: open_clip:ViT-B-32/openai, "),
        ("open_clip:ViT-B-32/openaj", "allowed: open_clip:ViT-B-32/openai, "),
        ("open_clip:tiny-for-tests", "allowed: open_clip:tiny-for-tests,weights=FILE"),
        ("open_clip:tiny-for-tests,weights=none", "'none': no such file"),
    ],
)
def test_what_it_is_not_is_refused(name: str, message: str, weights: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        backbone_spec(name)
    assert "\n" not in str(error.value)


def test_without_open_clip_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UserError, match=r"pip install 'intertitle\[open_clip\]'"):
        backbone_spec("open_clip:ViT-B-32/openai")
