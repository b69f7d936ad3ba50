"""The CNN on the CPU: ONNX Runtime against eager PyTorch, on the same pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from intertitle.pipeline.backbones import (
    BATCH,
    backbone_spec,
    efficientnet,
    open_backbone,
    prepare_backbone,
)
from intertitle.pipeline.backbones.torch_runtime import TorchBackbone

ROUNDS = 3


def images_per_s(call: Callable[[np.ndarray], np.ndarray], frames: np.ndarray) -> float:
    call(frames[:BATCH])
    best = 0.0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call(frames)
        best = max(best, len(frames) / (time.perf_counter() - began))
    return best


@pytest.mark.bench
@pytest.mark.parametrize("name", efficientnet.NAMES)
def test_onnx_runtime_against_eager_pytorch(name: str) -> None:
    spec = backbone_spec(name)
    cores = os.cpu_count() or 1
    torch.set_num_threads(cores)
    rng = np.random.default_rng(0)
    # Smooth pictures: noise alone would leave most of the network's units at rest.
    coarse = rng.integers(0, 256, (2 * BATCH, spec.size // 20, spec.size // 20, 3))
    frames = np.kron(coarse, np.ones((1, 20, 20, 1))).astype(np.uint8)
    frames = np.pad(frames, [(0, 0), *[(0, spec.size % 20)] * 2, (0, 0)], "edge")
    onnx = open_backbone(spec, cores, prepare_backbone(spec, "float32"))
    eager = TorchBackbone(spec, efficientnet.make_network(spec, None))
    ours, theirs = onnx(frames), eager(frames)
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    fast, slow = images_per_s(onnx, frames), images_per_s(eager, frames)
    print(
        f"\n{name} on {cores} cores: ONNX Runtime {fast:.0f} images/s, eager PyTorch {slow:.0f}: "
        f"{fast / slow:.1f} x; largest relative difference {difference:.1e}"
    )
