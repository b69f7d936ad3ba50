"""One writer a store, whoever dies or is cut off."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import pytest
from upath import UPath

import intertitle.pipeline.storage.lock
from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.storage import object_store
from intertitle.pipeline.storage.lock import single_writer_lock
from intertitle.pipeline.storage.paths import as_path
from tests.pipeline.storage.conftest import Server

HOLD = """
import sys, time
from intertitle.pipeline.storage.paths import as_path
from intertitle.pipeline.storage.lock import single_writer_lock
with single_writer_lock(as_path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the store."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_and_told_who_the_first_is(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with (
        pytest.raises(UserError, match=f"process {holder.pid} on .* is writing to this store"),
        single_writer_lock(as_path(tmp_path)),
    ):
        pass


def test_a_lock_ends_with_its_process(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    for _ in range(2):
        with single_writer_lock(as_path(tmp_path)) as check_held:
            check_held()


# On an object store


@pytest.fixture(params=["rclone", "conditional", "refusing"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UPath:
    """On a server that ignores conditions, on one that honours and on one that refuses them."""
    monkeypatch.setattr(intertitle.pipeline.storage.lock, "LEASE_S", 1.5)
    monkeypatch.setattr(intertitle.pipeline.storage.lock, "_SETTLE_S", 0.1)
    if request.param == "rclone":
        request.getfixturevalue("object_store")
        store = as_path(f"s3://bucket/{tmp_path.name}")
        ignored = f"{store.path}/ignored"
        assert store.fs.create_file(ignored, b"") and store.fs.create_file(ignored, b"")
        return store
    server = request.getfixturevalue("server")
    server.stored["/bucket"] = b""
    server.conditions = "honoured" if request.param == "conditional" else "refused"
    return as_path("s3://bucket/store")


def test_a_lease_keeps_a_second_writer_away_until_it_ends(
    store: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is renewed every five seconds; on a busy machine that may take as long again.
    monkeypatch.setattr(intertitle.pipeline.storage.lock, "LEASE_S", 15.0)
    with single_writer_lock(store) as check_held:
        with pytest.raises(UserError, match="is writing to this store"), single_writer_lock(store):
            pass
        check_held()
    assert not (store / "LOCK").exists()
    with single_writer_lock(store) as check_held:
        check_held()


def test_the_lease_of_the_dead_is_taken_over(store: UPath) -> None:
    (store / "LOCK").write_text(json.dumps({"host": "there", "pid": 7, "owner": "x", "beat": 3}))
    with single_writer_lock(store) as check_held:
        check_held()


def test_who_was_cut_off_meanwhile_does_not_publish(store: UPath) -> None:
    with single_writer_lock(store) as check_held:
        (store / "LOCK").write_text(json.dumps({"owner": "another"}))
        with pytest.raises(JobError, match="another process took this store over"):
            check_held()
    # And leaves the other's lease alone.
    assert json.loads((store / "LOCK").read_text()) == {"owner": "another"}


def test_of_two_who_come_at_once_one_writes(store: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    # Long enough for both to have written.
    monkeypatch.setattr(intertitle.pipeline.storage.lock, "_SETTLE_S", 1.0)
    monkeypatch.setattr(intertitle.pipeline.storage.lock, "LEASE_S", 15.0)
    start, ended, refused = threading.Barrier(2), [], threading.Event()

    def take() -> None:
        start.wait()
        try:
            with single_writer_lock(store) as check_held:
                check_held()
                ended.append("wrote")
                # A second one that a busy machine held up comes while the first is here.
                refused.wait(60)
        except UserError:
            ended.append("refused")
            refused.set()

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["refused", "wrote"]


@pytest.fixture
def conditional(server: Server, monkeypatch: pytest.MonkeyPatch) -> UPath:
    """A store whose server honours conditions; no one waits."""

    def wait(_: float) -> None:
        raise AssertionError("waited")

    monkeypatch.setattr(
        intertitle.pipeline.storage.lock, "time", SimpleNamespace(sleep=wait, monotonic=monotonic)
    )
    server.stored["/bucket"] = b""
    server.conditions = "honoured"
    return as_path("s3://bucket/store")


def test_where_a_file_is_created_once_no_one_waits(server: Server, conditional: UPath) -> None:
    with single_writer_lock(conditional) as check_held:
        check_held()
        assert "/bucket/store/LOCK" in server.stored
    assert "/bucket/store/LOCK" not in server.stored


def test_who_created_the_file_but_did_not_hear_of_it_holds_the_lease(
    server: Server, conditional: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "_pause", lambda _: 0.001)
    server.lost = 1
    with single_writer_lock(conditional) as check_held:
        check_held()
    assert server.lost == 0


def test_who_is_replaced_while_it_replaces_the_dead_is_refused(
    store: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two find that the last writer is dead; the second one removes what the first one wrote."""
    file = store / "LOCK"
    file.write_text(json.dumps({"host": "there", "pid": 7, "owner": "dead"}))

    def sleep(_: float) -> None:
        if json.loads(file.read_text())["owner"] != "dead":
            file.write_text(json.dumps({"host": "here", "pid": 8, "owner": "second"}))

    monkeypatch.setattr(
        intertitle.pipeline.storage.lock, "time", SimpleNamespace(sleep=sleep, monotonic=monotonic)
    )
    with pytest.raises(UserError, match="process 8 on here is writing"), single_writer_lock(store):
        pass
    assert json.loads(file.read_text())["owner"] == "second"
