"""What the tests of several importers share: folders laid out as a data set was published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Lay = Callable[[dict[str, object]], Path]


@pytest.fixture
def lay_out(tmp_path: Path) -> Lay:
    """Write files below one folder: text and bytes as they are, None as an empty file, and the
    rest as JSON."""

    def lay_out(files: dict[str, object]) -> Path:
        source = tmp_path / "published"
        source.mkdir(exist_ok=True)
        for name, content in files.items():
            file = source / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                file.write_bytes(content)
            elif isinstance(content, str):
                file.write_text(content, encoding="utf-8", newline="")
            else:
                file.write_text("" if content is None else json.dumps(content))
        return source

    return lay_out
