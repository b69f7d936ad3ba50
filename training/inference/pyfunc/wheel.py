"""The project as a wheel, which an environment that loads a model is built from.

The project may be on no package index, or be a newer state than the one that is.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from intertitle.training.tracking.environment import project_files

# Metadata of a project that runs without being installed, as on a cluster.
_NOT_INSTALLED = "Metadata-Version: 2.1\nName: intertitle\nVersion: 0\n"
_WHEEL = "Wheel-Version: 1.0\nGenerator: intertitle\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path) -> Path:
    """Write the project as a wheel to a folder, and return its path."""
    try:
        installed = distribution("intertitle")
        version, metadata = installed.version, installed.read_text("METADATA")
    except PackageNotFoundError:
        version, metadata = "0", None
    info = f"intertitle-{version}.dist-info"
    files = {str(place): file.read_bytes() for place, file in project_files().items()}
    files |= {
        f"{info}/METADATA": (metadata or _NOT_INSTALLED).encode(),
        f"{info}/WHEEL": _WHEEL.encode(),
    }
    record = [f"{place},sha256={_digest(data)},{len(data)}" for place, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    wheel = folder / f"intertitle-{version}-py3-none-any.whl"
    with ZipFile(wheel, "w", ZIP_DEFLATED) as archive:
        for place, data in files.items():
            archive.writestr(place, data)
    return wheel


def _digest(data: bytes) -> str:
    """Return a hash in the form of the file RECORD."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
