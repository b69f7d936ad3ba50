"""Exported networks from elsewhere: what they give, and which are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from intertitle.pipeline.backbones import backbone_spec, open_backbone, precision, prepare_backbone
from intertitle.pipeline.errors import UserError

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
IMAGES = ((FRAMES / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(0, 3, 1, 2)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A network of one convolution: images -> a grid [N, 4, 4, 4], or its mean [N, 4]."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def write(
        shape: Sequence[int | str] = ("N", 3, 32, 32),
        kind: int = TensorProto.FLOAT,
        output: str = "grid",
        opset: int = 18,
        inputs: int = 1,
        external: bool = False,
    ) -> Path:
        weights = np.random.default_rng(1).standard_normal((4, 3, 3, 3), np.float32)
        nodes = [
            helper.make_node("Cast", ["x"], ["as_float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["as_float"], ["turned"], perm=[0, 3, 1, 2]),
        ]
        if kind != TensorProto.UINT8:
            nodes = [helper.make_node("Identity", ["x"], ["turned"])]
        nodes += [
            helper.make_node("Conv", ["turned", "w"], ["grid"], strides=[8, 8]),
            helper.make_node("GlobalAveragePool", ["grid"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["vector"], axis=1),
        ]
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info(name, kind, shape) for name in "xyz"[:inputs]],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(weights, "w")],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
        )
        path = tmp_path / "network.onnx"
        onnx.save(model, path, save_as_external_data=external, size_threshold=0)
        return path

    return write


def features(name: str, kind: str, frames: np.ndarray = FRAMES) -> np.ndarray:
    spec = backbone_spec(name, kind)
    given = open_backbone(spec, 1, prepare_backbone(spec, "float32"))(frames)
    assert given.dtype == np.float32 and given.shape == (len(frames), *spec.shape)
    return given


@pytest.mark.parametrize("opset", [7, 18])
@pytest.mark.parametrize("batch", ["N", 1])
def test_a_network_for_images_gets_its_pictures_as_imagenet_has_them(
    write: Write, opset: int, batch: int | str
) -> None:
    path = write((batch, 3, 32, 32), opset=opset)
    session = onnxruntime.InferenceSession(path)
    images = IMAGES.astype(np.float32)
    expected = np.concatenate([session.run(None, {"x": images[i : i + 1]})[0] for i in range(40)])
    grid = features(f"onnx:{path}", "grid")
    assert np.allclose(grid, expected.reshape(40, 4, 16).transpose(0, 2, 1), atol=1e-4)
    assert np.allclose(features(f"onnx:{path}", "pooled"), expected.mean((2, 3)), atol=1e-4)


def test_a_network_for_frames_gets_them_as_they_are(write: Write) -> None:
    path = write(("N", 32, 32, 3), TensorProto.UINT8, "vector")
    expected = onnxruntime.InferenceSession(path).run(None, {"x": FRAMES})[0]
    assert np.allclose(features(f"onnx:{path}", "pooled"), expected, rtol=1e-5)
    assert "as decoded" in backbone_spec(f"onnx:{path}").preprocessing


def test_a_size_is_asked_for_where_the_file_has_none(write: Write) -> None:
    path = write(("N", 3, "h", "w"))
    with pytest.raises(UserError, match=r"any height and width, allowed: onnx:.*onnx,size=S"):
        backbone_spec(f"onnx:{path}")
    spec = backbone_spec(f"onnx:{path},size=64", "grid")
    assert (spec.name, spec.size, spec.shape) == ("onnx:network.onnx,size=64", 64, (64, 4))
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    assert features(f"onnx:{path},size=64", "grid", frames).shape == (2, 64, 4)


def test_it_is_found_again_by_its_hash_alone(write: Write, tmp_path: Path) -> None:
    path = write()
    spec = backbone_spec(f"onnx:{path}", "grid")
    assert spec.name == "onnx:network.onnx"
    assert spec.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    path.unlink()
    assert backbone_spec(spec.name, "grid", spec.weights_sha256) == spec
    assert features_are_made(spec)
    (kept,) = (tmp_path / "cache" / "intertitle").glob("*.onnx")
    kept.write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"is not on this machine; copy it to {kept}"):
        backbone_spec(spec.name, "grid", spec.weights_sha256)
    with pytest.raises(UserError, match="is not on this machine"):
        prepare_backbone(replace(spec, weights_sha256="0" * 64), "float32")


def features_are_made(spec: object) -> bool:
    return len(open_backbone(spec, 1, prepare_backbone(spec, "float32"))(FRAMES)) == len(FRAMES)  # type: ignore[arg-type]


def test_it_runs_in_float32_also_beside_a_gpu(write: Write) -> None:
    spec = backbone_spec(f"onnx:{write()}")
    assert precision(spec, gpu=True) == "float32"
    with pytest.raises(ValueError, match="float32, not in bfloat16"):
        prepare_backbone(spec, "bfloat16")


@pytest.mark.parametrize(
    ("options", "name", "kind", "message"),
    [
        ({"shape": (2, 3, 32, 32)}, "", "pooled", r"float \[2, 3, 32, 32\], allowed: uint8 \[N, H"),
        ({"shape": ("N", 1, 32, 32)}, "", "pooled", r"allowed: .*float32 \[N, 3, H, W\]"),
        ({"shape": ("N", 3, 32, 48)}, "", "pooled", "allowed: a square"),
        ({}, ",size=64", "pooled", "not 64"),
        ({}, ",size=0", "pooled", "S from 1 to 4096"),
        ({"inputs": 2}, "", "pooled", r"inputs \['x', 'y'\] .* allowed: one of each"),
        ({"output": "vector"}, "", "grid", r"gives float32 \[1, 4\] .*'grid'"),
        ({"opset": 6}, "", "pooled", "has opset 6, allowed: 7 on"),
        ({"external": True}, "", "pooled", "weights in other files"),
    ],
)
def test_another_kind_of_network_is_refused_by_name(
    write: Write, options: dict[str, object], name: str, kind: str, message: str
) -> None:
    with pytest.raises(UserError, match=rf"backbone: .*network\.onnx.*{message}"):
        backbone_spec(f"onnx:{write(**options)}{name}", kind)


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(UserError, match=r"text\.onnx' is not an ONNX file"):
        backbone_spec(f"onnx:{tmp_path}/text.onnx")
    with pytest.raises(UserError, match=r"none\.onnx': No such file"):
        backbone_spec(f"onnx:{tmp_path}/none.onnx")
    with pytest.raises(UserError, match=r"'onnx:', allowed: onnx:FILE"):
        backbone_spec("onnx:")
