"""Version of a persisted format, and its check when a file is read.

A file of another version is refused instead of misread. `docs/formats.md` lists the formats and
says which changes need a new version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from intertitle.pipeline.errors import UserError

# Name of the field that holds the version, in JSON and in the schema metadata of Arrow and Parquet.
VERSION_FIELD = "format_version"


class FormatVersionError(UserError):
    """A file has another version of its format than the one that this program reads."""


@dataclass(frozen=True, slots=True)
class FormatVersion:
    """A persisted format and the version of it that this program reads and writes.

    Attributes:
        name: name of the format, for messages.
        version: number of the version, from 1.
    """

    name: str
    version: int

    def metadata(self, field: str = VERSION_FIELD) -> dict[str, str]:
        """Return the schema metadata that an Arrow or Parquet file of this version has."""
        return {field: str(self.version)}

    def check(self, file: object, version: object) -> None:
        """Check the version of a file.

        Args:
            file: path of the file, for the message.
            version: version that the file has; None if it has none.

        Raises:
            FormatVersionError: the file has another version, or none; the message names both.
        """
        if type(version) is int and version == self.version:
            return
        has = "no version" if version is None else f"version {version}"
        raise FormatVersionError(
            f"{file}: {has} of the {self.name} format, this program reads version {self.version}"
        )

    def check_metadata(
        self, file: object, metadata: Mapping[bytes, bytes] | None, field: str = VERSION_FIELD
    ) -> None:
        """Check the version of an Arrow or Parquet file, given the metadata of its schema.

        Raises:
            FormatVersionError: the file has another version, or none; the message names both.
        """
        text = (metadata or {}).get(field.encode())
        if text is None:
            self.check(file, None)
        else:
            self.check(file, int(text) if text.isdigit() else text.decode())
