"""Folders of files that are complete and unchanged, or refused.

A manifest has the version of the format and the hash of every file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.failpoints import failpoint
from intertitle.pipeline.storage.format_version import VERSION_FIELD, FormatVersion
from intertitle.pipeline.storage.paths import atomic_folder

MANIFEST = "manifest.json"


def write_folder(folder: Path, files: Mapping[str, bytes], format: FormatVersion) -> None:
    """Write files and their manifest into a new folder, atomically and durably.

    Args:
        folder: path of the new folder.
        files: contents by file name.
        format: format of the folder.
    """
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = {VERSION_FIELD: format.version, "sha256": hashes}
    with atomic_folder(folder) as unfinished:
        for name, data in files.items():
            failpoint("write-folder", f"{folder.name}/{name}")
            (unfinished / name).write_bytes(data)
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1))


def read_folder(folder: Path, format: FormatVersion) -> dict[str, bytes]:
    """Read the files that `write_folder` wrote.

    Args:
        folder: path of the folder.
        format: format of the folder.

    Returns:
        Contents by file name.

    Raises:
        FormatVersionError: the folder has another version.
        UserError: the folder is incomplete, or a file has changed since it was written.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise UserError(f"{folder}: incomplete: it has no {MANIFEST}")
    try:
        entries = json.loads(manifest.read_bytes())
        version, hashes = entries.get(VERSION_FIELD), entries.get("sha256")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{manifest}: damaged: {error}") from error
    format.check(manifest, version)
    if not isinstance(hashes, dict):
        raise UserError(f"{manifest}: damaged: it has no hashes")
    files: dict[str, bytes] = {}
    for name, expected in hashes.items():
        path = folder / name
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != expected:
            raise UserError(f"{path}: damaged: its checksum differs from {MANIFEST}")
        files[name] = data
    return files
