"""Versions of the libraries that pixels and features depend on besides a store's fingerprint.

Versions are compared, but they are not part of a fingerprint. A patch release of Pillow or ONNX
Runtime changes features in their last bits or not at all: refusing a store for it would discard
valid features. So all nodes of one call must have the same versions, which is easy to arrange; a
snapshot records the versions that made it; and a later call with other versions logs a warning and
continues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Names of the distributions that decode, scale or compute. Ray itself refuses workers with another
# version of Python or of Ray.
_PACKAGES = (
    *("av", "decord2", "intertitle", "numpy", "onnxruntime", "open_clip_torch", "pillow"),
    *("pillow-heif", "simplejpeg", "timm", "torch", "torchvision"),
)
_CODE = "code"


@cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries of this process, by name."""
    import av

    versions_by_name = {}
    for package in _PACKAGES:
        try:
            # The CPU and GPU builds of a torch release count as the same version.
            versions_by_name[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            versions_by_name[package] = "none"
    for name in ("libavcodec", "libavformat"):
        versions_by_name[f"ffmpeg {name}"] = ".".join(
            map(str, av.library_versions.get(name, ("none",)))
        )
    return versions_by_name


@cache
def made_by() -> dict[str, str]:
    """Return what a snapshot records of this process: versions and a hash of the pipeline."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\n".encode())
        digest.update(file.read_bytes())
    return {**versions(), _CODE: digest.hexdigest()[:12]}


def differences(own: Mapping[str, str], compared: Mapping[str, str]) -> list[str]:
    """List the differences between two sets of versions, each as "name compared, not own".

    The hash of the code is left out, because it changes with every comment.
    """
    return [
        f"{name} {compared.get(name, 'none')}, not {own.get(name, 'none')}"
        for name in sorted((own.keys() | compared.keys()) - {_CODE})
        if own.get(name) != compared.get(name)
    ]
