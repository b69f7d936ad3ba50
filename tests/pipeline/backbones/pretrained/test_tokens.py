"""Transformers of timm, small and with random weights, against timm's own features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from intertitle.pipeline.backbones import (
    backbone_spec,
    open_backbone,
    prepare_backbone,
    timm_models,
)
from intertitle.pipeline.backbones.torch_runtime import TorchBackbone
from intertitle.pipeline.errors import UserError

timm = timm_models._import_timm()

# A class token; a register and attention pooling; and what DINOv3 has: rotary positions, a class
# token and four registers.
NETWORKS = {
    "test_vit": (100, 64),
    "test_vit3": (100, 96),
    "vit_small_patch16_dinov3": (256, 384),
}


def write_weights(model: str, folder: Path) -> tuple[str, torch.nn.Module]:
    """Write random weights of a network; return the name of the backbone, and the network."""
    torch.manual_seed(0)
    network = timm.create_model(model).eval()
    file = folder / f"{model}.safetensors"
    safetensors.torch.save_file(network.state_dict(), file)
    return f"timm:{model},weights={file}", network


def frames_of(size: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(p) for p in rng.integers(0, 256, (3, 12, 12, 3), np.uint8)]
    return np.stack([np.asarray(picture.resize((size, size))) for picture in coarse])


def timm_tokens(network: torch.nn.Module, frames: np.ndarray) -> torch.Tensor:
    """Return `forward_features` of frames that timm's own transform has prepared."""
    settings = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**settings, is_training=False)
    images = torch.stack([transform(Image.fromarray(frame)) for frame in frames])
    with torch.inference_mode():
        tokens: torch.Tensor = network.forward_features(images)
    return tokens


# The export of a network of 12 blocks takes too long here.
@pytest.mark.parametrize("model", NETWORKS)
def test_features_are_those_of_timm_in_pytorch_and_in_onnx_runtime(
    model: str, tmp_path: Path, onnx_cache: Path
) -> None:
    name, network = write_weights(model, tmp_path)
    specs = {kind: backbone_spec(name, kind) for kind in ("pooled", "grid")}
    cells, width = NETWORKS[model]
    assert (specs["pooled"].shape, specs["grid"].shape) == ((width,), (cells, width))
    frames = frames_of(specs["grid"].size)
    tokens = timm_tokens(network, frames)
    with torch.inference_mode():
        pooled = network.forward_head(tokens, pre_logits=True)
    expected = {"pooled": pooled.numpy(), "grid": tokens[:, -cells:].numpy()}
    for kind, spec in specs.items():
        in_torch = TorchBackbone(spec, timm_models.make_network(spec, None))(frames)
        assert np.abs(in_torch - expected[kind]).max() < 1e-5
        if len(network.blocks) < 12:
            in_onnx = open_backbone(spec, 2, prepare_backbone(spec, "float32"))(frames)
            assert np.abs(in_onnx - expected[kind]).max() < 1e-5


def test_preprocessing_is_in_the_fingerprint(tmp_path: Path, onnx_cache: Path) -> None:
    name, _ = write_weights("test_vit", tmp_path)
    spec = backbone_spec(name)
    assert spec.size == 168
    assert spec.preprocessing == (
        "RGB, central 160 x 160, x / 255, mean (0.5, 0.5, 0.5), "
        "standard deviation (0.5, 0.5, 0.5), trained on bicubic pictures; "
        "timm's forward_head(pre_logits=True)"
    )


def test_a_block_gives_its_patch_tokens(tmp_path: Path, onnx_cache: Path) -> None:
    name, network = write_weights("test_vit", tmp_path)
    spec = backbone_spec(name.replace("test_vit,", "test_vit@blocks.4,"), "grid")
    frames = frames_of(spec.size)
    outputs: list[torch.Tensor] = []
    network.blocks[4].register_forward_hook(lambda *call: outputs.append(call[2]))
    timm_tokens(network, frames)
    given = TorchBackbone(spec, timm_models.make_network(spec, None))(frames)
    assert np.abs(given - outputs[0][:, 1:].numpy()).max() < 1e-5
    with pytest.raises(UserError, match=r"gives \[1, 100, 64\], allowed for features 'pooled'"):
        backbone_spec(name.replace("test_vit,", "test_vit@blocks.4,"))


def test_a_grid_whose_last_dimension_is_the_width(tmp_path: Path, onnx_cache: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("swin_s3_tiny_224", img_size=64, embed_dim=24, depths=(1, 1, 1, 1))
    grid = timm_models._LastGrid(network.eval())
    images = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network.forward_features(images)
        assert torch.equal(grid(images), expected.permute(0, 3, 1, 2))
