"""A film to decode, and a decoder process of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import skvideo

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.precompute.isolation import sandbox

FILM = Path(skvideo.__file__).parent / "datasets" / "data" / "bikes.mp4"
# A busy machine takes its time to decode, and to fill memory.
LIMITS = Limits(seconds=120, memory_mb=200)
SOURCE = ItemFile(Item("bikes", str(FILM), "video", 1.0, 3.0), "/nowhere")


@pytest.fixture
def fresh_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A sandbox process that imports its modules in this test, and another one after it."""
    sandbox._SERVERS.stop()
    yield
    sandbox._SERVERS.stop()
