"""What all workers of a training have to agree on: workers of other versions compute otherwise, or
wait for each other for ever."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence

import torch

from pipeline.errors import UserError


def versions_here() -> dict[str, str]:
    """The versions of Python and PyTorch in this process, and the machine's name."""
    return {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "node": platform.node(),
    }


def check_versions(workers: Sequence[Mapping[str, str]]) -> None:
    """Make sure that all workers of a training have the same versions.

    Args:
        workers: what `versions_here` found on each, by rank.

    Raises:
        UserError: names the first worker that differs from worker 0, and both versions.
    """
    first = workers[0]
    for rank, found in enumerate(workers):
        for name in ("Python", "torch"):
            if found[name] != first[name]:
                raise UserError(
                    f"workers: worker {rank} on {found['node']} has {name} {found[name]}, allowed: "
                    f"{first[name]}, as worker 0 on {first['node']}"
                )
