"""How a training is told to stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from intertitle.jobs.commands import train as train_command
from intertitle.pipeline.corpus import Item, write_corpus
from intertitle.pipeline.errors import Stopped
from intertitle.training.trainer.workers import preemption as stop
from intertitle.training.trainer.workers.preemption import stop_on_signal


@pytest.fixture
def handlers() -> Iterator[None]:
    """This process's own, back at the end."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    # A shell's background job has Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_sigterm_asks_and_the_second_ends(handlers: None) -> None:
    asked: list[bool] = []
    with pytest.raises(Stopped) as stopped, stop_on_signal(lambda: asked.append(True)) as told:
        os.kill(os.getpid(), signal.SIGTERM)
        assert told.is_set()
        assert asked == [True]
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.exit_code == 75
    assert asked == [True]


def test_workers_that_do_not_stop_in_time_are_not_waited_for(
    handlers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "GRACE_S", 0.05)
    with pytest.raises(Stopped), stop_on_signal(lambda: None):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        pytest.fail("it was waited for")


def test_a_worker_that_watches_the_flag_ends_when_it_is_told_to(ray_cluster: None) -> None:
    flag = ray.remote(num_cpus=0)(stop.StopFlag).remote()

    @ray.remote(num_cpus=0)
    class Worker:
        def begin(self) -> int:
            self.is_up = stop.watch(flag)
            return os.getpid()

        def sees(self) -> bool:
            return self.is_up()

    first, second = Worker.remote(), Worker.remote()
    pid, _ = ray.get([first.begin.remote(), second.begin.remote()])
    os.kill(pid, signal.SIGTERM)
    psutil.wait_procs([psutil.Process(pid)], timeout=60)
    assert not psutil.pid_exists(pid)
    assert not ray.get(second.sees.remote())
    ray.get(flag.put_up.remote())
    deadline = time.monotonic() + 60
    while not ray.get(second.sees.remote()):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_training_has_begun_ends_the_command(
    number: signal.Signals,
    intertitle: Callable[..., Any],
    handlers: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    write_corpus(tmp_path / "c", [Item("a", "a.mp4", "video")], [])
    monkeypatch.setattr(train_command, "cluster", lambda _: os.kill(os.getpid(), number))
    ended = intertitle("train", "s2vt", "--corpus", tmp_path / "c", "--features", "f")
    assert ended.code == (75 if number == signal.SIGTERM else 130)
