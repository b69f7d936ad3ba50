"""The script for GPUs runs, on a CPU and with tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_section_of_the_script_for_gpus_runs(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    program = [sys.executable, "-m", "tests.benchmarks.gpu", "--quick", "--device", "cpu"]
    subprocess.run([*program, "--out", str(out)], check=True, cwd=ROOT, timeout=500)
    found = json.loads(out.read_text())
    assert set(found) == {"machine", "precision", "training", "search"}
    assert all(found.values())
    exact = [row for row in found["precision"] if row["precision"] == "float32"]
    assert exact
    assert all(row["largest_error"] == 0 for row in exact)
