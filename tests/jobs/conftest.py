"""What the tests of the commands share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mlflow_tables import copied_tables


@pytest.fixture(scope="session", autouse=True)
def mlflow_tables() -> Iterator[None]:
    """Stores of runs that need no migration."""
    with copied_tables():
        yield
