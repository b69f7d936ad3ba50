"""Processes that share the work of the longest tests."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest


@pytest.fixture
def processes(
    monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> Iterator[ProcessPoolExecutor]:
    """Two new processes, which can import the tests.

    Unlike a `Pool`, it does not wait for ever for a process that has ended.
    """
    monkeypatch.syspath_prepend(pytestconfig.rootpath)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool
