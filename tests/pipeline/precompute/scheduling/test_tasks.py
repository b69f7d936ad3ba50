"""What a task says of where it ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.precompute.scheduling import tasks
from intertitle.pipeline.precompute.scheduling.nodes import Place
from intertitle.pipeline.precompute.work import decode_chunk


def test_a_place_without_the_corpus_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "decode_confined", decode_chunk)
    monkeypatch.setattr(tasks, "current_place", lambda: Place("a", {}))
    for lacks in (True, False):
        source = ItemFile(Item("a", "a.png", "image"), str(tmp_path))
        decoded, _ = tasks._decode((source,), Uniform(1), 8, Limits())
        assert [i.rejection and i.rejection.error for i in decoded.items] == ["missing"]
        assert decoded.lacks_corpus is lacks
        (tmp_path / "items.parquet").touch()
