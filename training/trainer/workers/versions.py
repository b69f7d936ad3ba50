"""Check that all workers of a training have the same versions of Python and PyTorch.

Workers with different versions compute different results, or wait for each other forever.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence

import torch

from intertitle.pipeline.errors import UserError


def versions_here() -> dict[str, str]:
    """Return the versions of Python and PyTorch in this process, and the name of the node."""
    return {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "node": platform.node(),
    }


def check_versions(workers: Sequence[Mapping[str, str]]) -> None:
    """Check that all workers of a training have the same versions.

    Args:
        workers: results of `versions_here` on each worker, by rank.

    Raises:
        UserError: names the first worker that differs from worker 0, and both versions.
    """
    first = workers[0]
    for rank, info in enumerate(workers):
        for name in ("Python", "torch"):
            if info[name] != first[name]:
                raise UserError(
                    f"workers: worker {rank} on {info['node']} has {name} {info[name]}, allowed: "
                    f"{first[name]}, as worker 0 on {first['node']}"
                )
