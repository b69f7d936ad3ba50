"""New SQLite stores of MLflow as copies of the first one, because its migrations take a second."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest


@contextmanager
def copied_tables() -> Iterator[None]:
    """MLflow makes its tables once; each further empty SQLite file of this process is a copy."""
    import sqlalchemy
    from mlflow.store.db import utils

    make = utils._initialize_tables
    copies: list[sqlite3.Connection] = []

    def copy_or_make(engine: Any) -> None:
        if engine.dialect.name != "sqlite" or sqlalchemy.inspect(engine).get_table_names():
            make(engine)
            return
        if not copies:
            first = sqlite3.connect(":memory:", check_same_thread=False)
            make(engine)
            _copy(engine, lambda file: file.backup(first))
            copies.append(first)
        else:
            _copy(engine, copies[0].backup)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", copy_or_make)
        yield


def _copy(engine: Any, copy: Any) -> None:
    with closing(engine.raw_connection()) as connection:
        copy(connection.driver_connection)
