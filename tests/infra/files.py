"""The committed files of `infra/`, and what is in them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "infra"


def read(path: str) -> Any:
    """A new copy of a file's tree, in which parts with a YAML anchor are separate."""
    return json.loads(json.dumps(yaml.safe_load((FOLDER / path).read_text("utf-8"))))


def trees() -> dict[str, Any]:
    """Every YAML file by its path."""
    paths = (path.relative_to(FOLDER) for path in FOLDER.rglob("*.yaml"))
    return {str(path): read(str(path)) for path in sorted(paths)}


def fields(tree: Any) -> Iterator[tuple[str, Any]]:
    """Each key with its value, at any depth."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key, value
            yield from fields(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from fields(value)


def pods(tree: Any) -> Iterator[dict[str, Any]]:
    """Each pod's specification."""
    return (
        value["spec"]
        for key, value in fields(tree)
        if key.lower().endswith("template")
        if "containers" in value.get("spec", ())
    )


def images(tree: Any) -> Iterator[str]:
    """Each container image."""
    return (value for key, value in fields(tree) if key == "image")


def commands() -> Iterator[list[str]]:
    """Each command that any file has a container run, as its words."""
    for tree in trees().values():
        for key, value in fields(tree):
            if key == "command":
                yield value
            elif key == "entrypoint" and isinstance(value, str):
                yield shlex.split(value)
            elif key.endswith("_start_ray_commands"):
                yield from (line.split() for line in value)
