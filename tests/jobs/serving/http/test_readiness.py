"""Readiness, asked of the models once for all callers of a second."""

from __future__ import annotations

import asyncio

import pytest

from intertitle.jobs.serving.config import ModelConfig
from intertitle.jobs.serving.errors import full
from intertitle.jobs.serving.http import readiness as module
from intertitle.jobs.serving.http.readiness import Readiness
from intertitle.jobs.serving.models.routing import Route
from tests.jobs.serving.backends import FakeBackend


def test_models_are_asked_once_for_all_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    main = FakeBackend("main", [full("try again")])
    readiness = Readiness({"words": Route(ModelConfig(name="words", spec="main"), main)})

    async def work() -> None:
        answers = await asyncio.gather(*(readiness.missing_model() for _ in range(5)))
        assert set(answers) == {"words"} and main.num_calls == 1
        monkeypatch.setattr(module, "_HOLDS_S", 0.0)
        readiness._valid_until = 0.0
        assert await readiness.missing_model() is None
        assert await readiness.missing_model() is None
        assert main.num_calls == 3

    asyncio.run(work())
