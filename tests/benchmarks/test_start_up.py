"""Time to a caption and to a refusal, relative to what no such program can do without."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest
from PIL import Image

from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.training.data.data_ref import DataRef, FeatureRef
from intertitle.training.inference.pyfunc import write_mlflow_model
from intertitle.training.tracking.run import TrackedRun
from tests.jobs.program import PROGRAM
from tests.jobs.test_arguments import WRONG
from tests.training.conftest import coloured_things, small_recipe, untrained, words_of

ROUNDS = 5
pytestmark = pytest.mark.bench


def seconds(command: list[object], folder: Path, code: int = 0) -> float:
    """How long a command takes."""
    start = time.perf_counter()
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True)
    assert done.returncode == code, done.stderr
    return time.perf_counter() - start


def test_a_file_is_captioned_soon(tmp_path: Path, onnx_cache: Path) -> None:
    spec = backbone_spec("efficientnet_lite0")
    made = make_fingerprint(spec, Uniform(1), "arrow", "float32").features_json()
    data = DataRef("corpus", "0", (FeatureRef("features", "0", made, spec.shape[-1]),))
    model = untrained(small_recipe(), data, words_of(coloured_things(20)))
    write_mlflow_model(model, tmp_path / "model")
    with TrackedRun.start(f"sqlite:///{tmp_path}/mlflow.db", "predicting", "first") as run:
        run.model(tmp_path / "model", "model")
    Image.new("RGB", (640, 480), "red").save(tmp_path / "photo.jpg")
    predict: list[object] = [PROGRAM, "predict", "first", "photo.jpg"]
    imports: list[object] = [sys.executable, "-c", "import torch, onnxruntime"]
    # The first call exports the network.
    seconds(predict, tmp_path)
    # In turn, on a machine whose speed drifts.
    pairs = [(seconds(predict, tmp_path), seconds(imports, tmp_path)) for _ in range(ROUNDS)]
    ratio = median(ours / theirs for ours, theirs in pairs)
    print(
        f"\npredict of one photograph, relative to importing PyTorch and ONNX Runtime: {ratio:.2f}"
    )
    assert ratio <= 3


def test_wrong_calls_are_refused_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ratios = {}
    for call, _ in WRONG:
        pairs = [
            (
                seconds([PROGRAM, *call.split()], tmp_path, code=2),
                seconds([PROGRAM, "--help"], tmp_path),
            )
            for _ in range(ROUNDS)
        ]
        ratios[call] = median(ours / theirs for ours, theirs in pairs)
    for call, ratio in sorted(ratios.items(), key=lambda item: item[1]):
        print(f"{ratio:5.2f}  {call}")
    print(f"median of {len(ratios)} wrong calls, relative to --help: {median(ratios.values()):.2f}")
