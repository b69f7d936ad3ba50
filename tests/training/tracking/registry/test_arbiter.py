"""One retraining of a model at a time, whatever folders and hosts the processes have."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from intertitle.pipeline.errors import JobError, UserError
from intertitle.training.tracking.registry import arbiter, claims
from intertitle.training.tracking.registry.arbiter import only_one
from intertitle.training.tracking.registry.claims import Claim, ClaimBoard, new_claim
from intertitle.training.tracking.store.client import open_client, open_experiment

EXPERIMENT = "retrainings"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all: MLflow takes seconds to create a database."""
    return f"sqlite:///{tmp_path_factory.mktemp('a store')}/mlflow.db"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in (("BEAT_S", 0.1), ("LEASE_S", 1.0), ("_LOOK_S", 0.05)):
        monkeypatch.setattr(arbiter, name, value)
    yield


def other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes do not see whether others live."""
    monkeypatch.setattr(claims, "_machine", lambda: str(threading.get_ident()))


def claim_tags(uri: str) -> dict[str, str]:
    tags = open_client(uri).get_experiment_by_name(EXPERIMENT).tags
    return {key: value for key, value in tags.items() if key.startswith("retrain.claim.")}


def hold(uri: str, model: str = "moods"):
    return only_one(model, EXPERIMENT, uri, lambda _: None)


def test_a_model_is_held_by_one_and_others_are_told_by_whom(uri: str) -> None:
    with hold(uri) as check:
        check()
        with hold(uri, "others"):
            pass
        with (
            pytest.raises(UserError, match=r"moods: process \d+ on \S+ is retraining it"),
            hold(uri),
        ):
            pass
        check()
    assert claim_tags(uri) == {}
    with hold(uri):
        pass


def test_of_many_that_begin_at_once_one_holds_it(
    uri: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_host(monkeypatch)
    # No thread may seem dead on a busy machine.
    monkeypatch.setattr(arbiter, "LEASE_S", 60.0)
    inside, done, start = [], threading.Event(), threading.Barrier(5)

    def run(number: int) -> str:
        start.wait()
        try:
            with hold(uri) as check:
                inside.append(number)
                done.wait(60)
                check()
                return "held"
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(5) as threads:
        running = [threads.submit(run, number) for number in range(5)]
        while sum(one.done() for one in running) < 4 or not inside:
            time.sleep(0.05)
        done.set()
        assert len(inside) == 1
        told = [one.result() for one in running if one.result() != "held"]
    assert len(told) == 4 and all("is retraining it; one at a time" in line for line in told)


def test_a_killed_process_of_this_machine_is_replaced_at_once(uri: str, tmp_path: Path) -> None:
    program = (
        "import os, signal\nfrom intertitle.training.tracking.registry.arbiter import only_one\n"
        f"with only_one('moods', {EXPERIMENT!r}, {uri!r}, print):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program])
    assert len(claim_tags(uri)) == 1
    waited: list[str] = []
    with only_one("moods", EXPERIMENT, uri, waited.append):
        assert len(claim_tags(uri)) == 1
    assert waited == []


def test_a_host_that_was_cut_off_is_replaced_after_its_lease_and_publishes_nothing(
    uri: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_host(monkeypatch)
    waited: list[str] = []
    with hold(uri) as check_first:
        monkeypatch.setattr(ClaimBoard, "write", cut_off(ClaimBoard.write))
        monkeypatch.setattr(claims, "_machine", lambda: "another")
        with only_one("moods", EXPERIMENT, uri, waited.append) as check_second:
            check_second()
            with pytest.raises(JobError, match="another process took its retraining over"):
                check_first()
        # What it writes once it is back does not count either.
    assert len(waited) == 1 and "is alive" in waited[0]


def cut_off(write):
    """The keeper threads of those that hold a model get nothing through."""

    def lost(board: ClaimBoard, claim: Claim, quick: bool = True) -> None:
        if threading.current_thread().name != "arbiter":
            write(board, claim)

    return lost


def board_of(uri: str) -> ClaimBoard:
    client = open_client(uri)
    return ClaimBoard(client, open_experiment(client, uri, EXPERIMENT), uri, "moods")


def test_a_competitor_on_another_host_that_dies_after_a_renewal_is_replaced(
    uri: str, quick: None
) -> None:
    board = board_of(uri)
    # Its id is greater than any other, so it would withdraw if it were alive.
    dying = replace(new_claim("moods"), owner="z", machine="another", number=7)
    board.write(dying)
    waited: list[str] = []

    def renew_once(message: str) -> None:
        waited.append(message)
        board.write(replace(dying, beat=1))

    with only_one("moods", EXPERIMENT, uri, renew_once) as check:
        check()
        assert [claim.number for claim in board.read().values()] == [8]
    assert len(waited) == 1


def test_a_claim_that_this_process_could_not_remove_is_no_obstacle(uri: str) -> None:
    board_of(uri).write(replace(new_claim("moods"), holds=True))
    with hold(uri):
        assert len(claim_tags(uri)) == 1


def test_renewals_leave_the_timeouts_of_other_threads_alone(
    uri: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_timeouts, threads = claims.short_timeouts, set()

    def record():
        threads.add(threading.current_thread().name)
        return short_timeouts()

    monkeypatch.setattr(claims, "short_timeouts", record)
    board = board_of(uri)
    with hold(uri):
        while not [claim for claim in board.read().values() if claim.beat > 1]:
            time.sleep(0.05)
    assert threads and "arbiter" not in threads
