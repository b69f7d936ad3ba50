"""The versions of what pixels and features depend on besides a store's fingerprint.

They are compared, and never part of a fingerprint. A patch of Pillow or ONNX Runtime changes no
feature, or its last bits: to refuse a store for it would throw good features away. So the nodes of
one call must agree, which is cheap to set right; a snapshot says which versions made it; and a
later call with others warns, and goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# By the name of the distribution: what decodes, what scales, what computes. Ray itself refuses
# workers of another version of Python or of Ray.
_PACKAGES = ("av", "decord2", "intertitle", "numpy", "onnxruntime", "pillow", "timm", "torch")
_CODE = "code"


@cache
def versions() -> dict[str, str]:
    """Of the libraries of this process, by name."""
    import av

    found = {}
    for package in _PACKAGES:
        try:
            # One build of torch for CPUs and one for GPUs are one version.
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = "none"
    for name in ("libavcodec", "libavformat"):
        found[f"ffmpeg {name}"] = ".".join(map(str, av.library_versions.get(name, ("none",))))
    return found


@cache
def made_by() -> dict[str, str]:
    """What a snapshot says of this process: the versions, and a hash of this package's code."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\n".encode())
        digest.update(file.read_bytes())
    return {**versions(), _CODE: digest.hexdigest()[:12]}


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Where two differ: "name there, not here" each. The code's hash, which changes with every
    comment, is left out."""
    return [
        f"{name} {there.get(name, 'none')}, not {here.get(name, 'none')}"
        for name in sorted((here.keys() | there.keys()) - {_CODE})
        if here.get(name) != there.get(name)
    ]
