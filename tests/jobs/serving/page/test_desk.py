"""Calls of the page without a browser."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from intertitle.jobs.serving.page.desk import Desk
from intertitle.jobs.serving.schemas import ModelDetails
from tests.jobs.serving.tiny_models import described


def answerer(name: str, uses: str, **fields: Any) -> ModelDetails:
    return described(name, visual_input="pooled", has_source=True, uses=uses, **fields)


def desk_with(*models: ModelDetails) -> Desk:
    """A desk whose models describe themselves, and do nothing else."""

    def route(model: ModelDetails) -> Any:
        async def details() -> ModelDetails:
            return model

        return SimpleNamespace(main=SimpleNamespace(details=details))

    routes = {model.name: route(model) for model in models}
    nothing = cast(Any, None)
    return Desk(routes, nothing, nothing, nothing, body_bytes=1, calls=1)


def test_models_that_differ_in_what_they_use_are_variants() -> None:
    desk = desk_with(
        answerer("blind", "question"),
        answerer("full", "both"),
        answerer("newer", "both"),
        answerer("elsewhere", "image", corpus="other"),
        described("captions", visual_input="pooled"),
    )

    def variants(name: str) -> dict[str, str]:
        return asyncio.run(desk.variants(name))

    assert variants("full") == {"Question and picture": "full", "Question alone": "blind"}
    assert list(variants("blind").values()) == ["full", "blind"]
    assert list(variants("newer").values()) == ["newer", "blind"]
    for name in ("elsewhere", "captions", "nobody"):
        assert variants(name) == {}
