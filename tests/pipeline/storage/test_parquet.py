"""Parquet files are read without Python objects that outlive the read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from upath import UPath

from intertitle.pipeline.storage.parquet import open_parquet, read_table

TABLE = pa.table({"key": ["a", "b", "c"], "row": [1, 2, 3]})


@pytest.fixture(params=["local", "remote"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    folder = tmp_path if request.param == "local" else "memory://test-parquet"
    path = UPath(folder) / "table.parquet"
    with path.open("wb") as opened:
        pq.write_table(TABLE, opened)
    return path


def test_no_python_file_is_handed_to_the_threads_of_arrow(file: UPath) -> None:
    with open_parquet(file) as opened:
        assert isinstance(opened, pa.OSFile | pa.BufferReader)
        assert pq.ParquetFile(opened).read().equals(TABLE)


def test_columns_and_rows_are_chosen(file: UPath) -> None:
    assert read_table(file).equals(TABLE)
    assert read_table(file, ["row"]).column_names == ["row"]
    assert read_table(file, ["row"], pc.field("key").isin(["b"])).to_pylist() == [{"row": 2}]


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.parquet"):
        read_table(tmp_path / "gone.parquet")
