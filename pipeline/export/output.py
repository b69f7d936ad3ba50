"""Outputs of exports: new files and folders, and the files of items that go into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from intertitle.pipeline.corpus import Corpus, Item, parse_member
from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.endings import ending_for
from intertitle.pipeline.decoding.item_file import ItemFile, open_item_file
from intertitle.pipeline.errors import UserError

_HEAD_BYTES = 400


@dataclass(slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        rows: number of rows, annotations or items.
        files: number of files of items.
        missing: keys of the items whose files cannot be read, which are left out.
        reason: reason why the first of them cannot be read, or None.
    """

    rows: int = 0
    files: int = 0
    missing: list[str] = field(default_factory=list)
    reason: str | None = None

    def check_not_empty(self) -> None:
        """Check that not all items are left out.

        Raises:
            UserError: nothing was written.
        """
        if self.missing and not self.rows:
            raise UserError(
                f"none of the {len(self.missing)} items has a file that can be read, the first: "
                f"{self.reason}"
            )


def check_new(out: Path) -> None:
    """Check that an output does not exist, and that its folder does.

    Raises:
        UserError: it exists, or its folder does not.
    """
    if out.exists():
        raise UserError(f"{out}: exists, allowed: a new name")
    if not out.absolute().parent.is_dir():
        raise UserError(f"{out}: no folder {out.absolute().parent}")


@contextmanager
def item_file(corpus: Corpus, item: Item, exported: Exported) -> Iterator[tuple[Path, str] | None]:
    """Provide an item's file on a local disk, and the ending for a copy of it, in a `with` block.

    None stands for a file that cannot be read, which is counted.

    Raises:
        UserError: the machine or the network failed, so that another try may succeed.
    """
    with ExitStack() as stack:
        try:
            path, _ = stack.enter_context(open_item_file(ItemFile(item, str(corpus.path))))
        except DecodeError as error:
            if error.error == "unavailable":
                raise UserError(f"{item.key}: can't be read now: {error.message}") from error
            exported.missing.append(item.key)
            exported.reason = exported.reason or error.message
            yield None
            return
        yield path, _ending(item, path)
        exported.files += 1


def _ending(item: Item, path: Path) -> str:
    if parse_member(item.uri) is None:
        suffix = PurePosixPath(item.uri.partition("?")[0]).suffix.lower()
        if suffix[1:].isalnum():
            return suffix
    try:
        with path.open("rb") as file:
            return ending_for(file.read(_HEAD_BYTES))
    except ProbeError:
        return ".jpg" if item.kind == "image" else ".mp4"


def file_names(splits: list[str]) -> dict[str, str]:
    """Return the names of splits as parts of file names.

    Raises:
        UserError: two splits would have one file, also where the file system ignores case.
    """
    split_of: dict[str, str] = {}
    names = {}
    for split in splits:
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in split)
        first = split_of.setdefault(name.casefold(), split)
        if first != split:
            raise UserError(f"splits {first!r} and {split!r}: both would be written to {name!r}")
        names[split] = name
    return names
