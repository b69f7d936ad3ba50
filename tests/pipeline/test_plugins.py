"""What installed packages add is found by its name; what can't be used names its package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.plugins import Registry
from tests.plugins import install

OWN = {"join": "posixpath:join", "split": "posixpath:split"}


@pytest.fixture
def registry() -> Registry[Any]:
    return Registry("intertitle.tests", "function", type(lambda: None), OWN)  # type: ignore[arg-type]


def add(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, **values: str) -> None:
    name = f"{package}_module"
    files = {f"{name}.py": "def shout(text):\n    return text.upper()\n\nNUMBER = 3\n"}
    files[f"{name}.py"] += "def join(): ...\n\njoin.name = 'join'\n"
    install(folder / package, package, {"intertitle.tests": values}, files)
    monkeypatch.syspath_prepend(folder / package)


def test_a_package_adds_a_name(
    registry: Registry[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.names() == ["join", "split"]
    add(tmp_path, monkeypatch, "loud", shout="loud_module:shout")
    assert registry.names() == ["join", "split", "shout"]
    assert "loud_module" not in sys.modules
    assert registry.load("shout", "here")("a") == "A"
    assert registry.load("join", "here")("a", "b") == "a/b"


def test_an_unknown_name_lists_what_is_there(
    registry: Registry[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, monkeypatch, "loud", shout="loud_module:shout")
    with pytest.raises(UserError, match=r"^here: 'x', allowed: join, split, shout$"):
        registry.load("x", "here")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "loud_nowhere:shout",
            "function 'shout' of the package loud: loud_nowhere:shout: ModuleNotFoundError: "
            "No module named 'loud_nowhere'",
        ),
        (
            "loud_module:NUMBER",
            "function 'shout' of the package loud: loud_module:NUMBER is int, expected function",
        ),
        (
            "loud_module:join",
            "function 'shout' of the package loud: loud_module:join is named 'join', expected the "
            "entry point's name",
        ),
    ],
)
def test_what_cannot_be_used_names_its_package(
    value: str,
    message: str,
    registry: Registry[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add(tmp_path, monkeypatch, "loud", shout=value)
    with pytest.raises(UserError) as error:
        registry.load("shout", "here")
    assert str(error.value) == message
    loaded, failures = registry.load_all()
    assert (sorted(loaded), failures) == (["join", "split"], {"shout": message})


def test_a_name_of_two_packages_is_refused(
    registry: Registry[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, monkeypatch, "loud", join="loud_module:shout")
    message = r"^function 'join': is in the packages intertitle and loud, expected one$"
    with pytest.raises(UserError, match=message):
        registry.load("join", "here")
    assert registry.load("split", "here")("a/b") == ("a", "b")
