"""Installed packages, as a test makes them: files, and entry points that name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path, package: str, points: Mapping[str, Mapping[str, str]], files: Mapping[str, str]
) -> Path:
    """Lay out a package as pip installs it; the folder for `sys.path`.

    Args:
        folder: where to.
        package: its name.
        points: values of its entry points by group and name.
        files: contents of its modules by their paths.
    """
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = []
    for group, values in points.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in values.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder
