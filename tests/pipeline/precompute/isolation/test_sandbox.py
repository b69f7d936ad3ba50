"""Whose fault it was: an item is decoded in a process of its own, which it may do anything to."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.precompute.isolation import sandbox
from intertitle.pipeline.precompute.isolation.sandbox import decode_confined, decode_isolated
from intertitle.pipeline.precompute.work import decode_chunk
from intertitle.pipeline.storage.failpoints import ONCE, VARIABLE
from intertitle.pipeline.storage.paths import as_path
from tests.pipeline.precompute.isolation.conftest import FILM, LIMITS, SOURCE


def test_what_does_no_harm_is_decoded_as_ever() -> None:
    item, frames = decode_isolated(SOURCE, Uniform(4), 64, LIMITS)
    (other,), others = decode_chunk([SOURCE], Uniform(4), 64, LIMITS)
    assert np.array_equal(frames, others) and np.array_equal(item.times_s, other.times_s)
    assert (item.state, item.rejection, item.source) == (other.state, None, SOURCE)


def test_what_is_rejected_is_rejected_as_ever(tmp_path: Path) -> None:
    source = ItemFile(Item("gone", "gone.mp4", "video"), str(tmp_path))
    item, frames = decode_isolated(source, Uniform(4), 64, LIMITS)
    assert item.rejection is not None and item.rejection.error == "missing"
    assert item.state is None and frames.shape == (0, 64, 64, 3)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        ("hang", "timeout", "takes more than 1 s"),
        ("allocate", "memory", "takes more than 200 MiB"),
        ("crash", "crashed", "died of SIGSEGV"),
        ("kill", "killed", "something killed the decoder"),
    ],
)
def test_what_an_item_does_to_its_process_is_named(
    action: str, error: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"decode@bikes={action}")
    limits = Limits(seconds=1, memory_mb=200) if action == "hang" else LIMITS
    item, frames = decode_isolated(SOURCE, Uniform(4), 64, limits)
    assert item.rejection is not None and item.rejection.error == error
    assert message in item.rejection.message and str(FILM) in item.rejection.message
    assert item.state is not None and frames.shape == (0, 64, 64, 3)


def test_an_item_whose_process_somebody_else_killed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bikes=kill")
    monkeypatch.setenv(ONCE, str(tmp_path))
    item, frames = decode_isolated(SOURCE, Uniform(4), 64, LIMITS)
    assert [note.name for note in tmp_path.iterdir()] == ["decode@bikes"]
    assert item.rejection is None and frames.shape == (4, 64, 64, 3)


def test_a_crash_costs_its_item_and_not_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bad=crash")
    bad = replace(SOURCE, item=replace(SOURCE.item, key="bad"))
    items, frames = decode_confined([SOURCE, bad, SOURCE], Uniform(2), 64, LIMITS)
    assert [item.rejection and item.rejection.error for item in items] == [None, "crashed", None]
    assert len(frames) == 4 and np.array_equal(frames[:2], frames[2:])


def test_a_copy_that_was_fetched_is_read_by_its_descriptor(
    object_store: Path, tmp_path: Path
) -> None:
    bucket = as_path(f"s3://bucket/{tmp_path.name}")
    bucket.fs.pipe_file(f"{bucket.path}/a.mp4", FILM.read_bytes())
    bucket.fs.pipe_file(f"{bucket.path}/text.mp4", b"no film")
    names = ("a", "text", "gone")
    sources = [ItemFile(Item(n, f"{n}.mp4", "video", 1.0, 3.0), str(bucket)) for n in names]
    items, frames = decode_confined([SOURCE, *sources], Uniform(4), 64, LIMITS)
    assert [item.rejection and item.rejection.error for item in items] == [
        *(None, None, "unreadable", "missing")
    ]
    assert np.array_equal(frames[:4], frames[4:]) and [i.source for i in items[1:]] == sources
    told = items[2].rejection
    assert told and told.message.startswith(f"{bucket}/text.mp4: ")


def test_what_a_machine_cannot_keep_from_decoders_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_said_gaps", False)
    for _ in range(2):
        sandbox._say_gaps(["the network (no seccomp)"])
    assert caplog.messages == ["decoders are not kept from: the network (no seccomp)"]


def test_an_unexpected_error_quarantines_its_item_with_the_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bikes=nonsense")
    item, frames = decode_isolated(SOURCE, Uniform(4), 64, LIMITS)
    (other,), _ = decode_chunk([SOURCE], Uniform(4), 64, LIMITS)
    for found in (item, other):
        assert found.rejection is not None and found.rejection.error == "internal"
        assert "ValueError" in found.rejection.message and "nonsense" in found.rejection.message
        assert "Traceback" in str(found.rejection.traceback)
        assert found.state is not None and found.state.sha256
    assert not len(frames)
    # The confined process may read the sources that a traceback quotes.
    assert item.rejection is not None and 'failpoint("decode"' in str(item.rejection.traceback)


@pytest.mark.usefixtures("fresh_sandbox")
def test_a_file_that_hangs_before_it_is_read_is_the_machines_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a network's disk: the process is killed while it still waits for the file."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(
        "import hashlib, time\nhashlib.file_digest = lambda *_: time.sleep(100)\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path / "slow"), *sys.path])
    item, _ = decode_isolated(SOURCE, Uniform(4), 64, Limits(seconds=1))
    assert item.rejection is not None and item.rejection.error == "unavailable"
    assert "reading the file takes more than 1 s" in item.rejection.message


@pytest.mark.usefixtures("fresh_sandbox")
def test_more_memory_than_any_machine_has_is_the_items_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import hashlib\nhashlib.file_digest = lambda *_: bytearray(2**62)\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    item, _ = decode_isolated(SOURCE, Uniform(4), 64, LIMITS)
    assert item.rejection is not None and item.rejection.error == "memory"


DOWNLOAD = """
import time
from contextlib import ExitStack, contextmanager
from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.precompute.isolation import decoder_process, sandbox

@contextmanager
def hang(source, limits):
    time.sleep(1000)
    yield

sandbox.open_item_file = hang
sandbox.is_local = lambda path: False
with ExitStack() as stack:
    source = ItemFile(Item("a", "a.mp4", "video"), "/nowhere")
    print(sandbox._fetch(source, Limits(seconds=0.1), stack).rejection.error)
"""


def test_a_server_that_never_answers_does_not_keep_the_program_from_exiting() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DOWNLOAD], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "unavailable\n"
