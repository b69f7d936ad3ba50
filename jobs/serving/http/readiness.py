"""Readiness of the models, which anybody may ask for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.models.routing import Route

# Time that a model has to say that it is ready, and for which the answer holds.
_READY_S, _HOLDS_S = 5.0, 1.0


class Readiness:
    """Whether all models can answer, asked once a second at most however many callers ask.

    Args:
        routes: models by name.
    """

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = routes
        self._missing: str | None = None
        self._valid_until = 0.0
        self._lock = asyncio.Lock()

    async def missing_model(self) -> str | None:
        """Return the name of a model that cannot answer, or None if all can."""
        async with self._lock:
            if time.monotonic() >= self._valid_until:
                self._missing = await self._find_missing()
                self._valid_until = time.monotonic() + _HOLDS_S
            return self._missing

    async def _find_missing(self) -> str | None:
        for name, route in self._routes.items():
            try:
                async with asyncio.timeout(_READY_S):
                    await route.main.details()
            except (TimeoutError, ApiError):
                return name
        return None
