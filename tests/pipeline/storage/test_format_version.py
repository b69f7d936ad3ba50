"""The check of a version."""

from __future__ import annotations

import pyarrow as pa
import pytest

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.format_version import FormatVersion

FORMAT = FormatVersion("song", 2)


@pytest.mark.parametrize("version", [3, 1, 0, 2.0, True, "2", [2], None])
def test_another_version_is_refused(version: object) -> None:
    has = "no version" if version is None else f"version {version}"
    with pytest.raises(UserError) as refused:
        FORMAT.check("a/b.json", version)
    line = f"a/b.json: {has} of the song format, this program reads version 2"
    assert str(refused.value) == line


def test_metadata_has_the_version() -> None:
    FORMAT.check(".", 2)
    schema = pa.schema([], FORMAT.metadata())
    FORMAT.check_metadata(".", schema.metadata)
    FORMAT.check_metadata(".", pa.schema([], FORMAT.metadata("part")).metadata, "part")


@pytest.mark.parametrize(
    ("metadata", "has"),
    [
        (None, "no version"),
        ({b"other": b"2"}, "no version"),
        ({b"format_version": b"10"}, "version 10"),
        ({b"format_version": b"two"}, "version two"),
        ({b"format_version": b""}, "version "),
    ],
)
def test_metadata_of_another_version_is_refused(
    metadata: dict[bytes, bytes] | None, has: str
) -> None:
    with pytest.raises(UserError, match=f"{has} of the song format"):
        FORMAT.check_metadata("a.parquet", metadata)
