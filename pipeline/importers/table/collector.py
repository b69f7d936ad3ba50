"""Build a corpus from rows: one example per file, per file and question, or per row of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from intertitle.pipeline.corpus import Example, Item, clean_text, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.parsing import check_caption, format_value, split_named
from intertitle.pipeline.importers.questions import write_kinds
from intertitle.pipeline.importers.report import ImportReport, count_import
from intertitle.pipeline.importers.table.cells import seconds_of, text_of, texts_of
from intertitle.pipeline.importers.table.columns import Columns
from intertitle.pipeline.importers.table.readers import Row
from intertitle.pipeline.importers.table.splits import SplitRule
from intertitle.pipeline.storage.paths import AnyPath

# Function that returns the key of the file in a cell, and its item, None if the file is missing.
FindItem = Callable[[Any, str], tuple[str, Item | None]]


@dataclass(slots=True)
class _Draft:
    """An example that further rows may add references to."""

    id: str
    where: str
    group: str
    item_key: str | None
    source: str | None
    targets: list[str]
    split: str | None
    kind: str


@dataclass(slots=True)
class Collector:
    """Collects rows, and writes the corpus of their items and examples.

    Attributes:
        rule: rule that draws the splits if no row has one; otherwise rows without one are in train.
        shares_files: whether several splits may have one file, which a note counts.
    """

    rule: SplitRule = field(default_factory=SplitRule)
    shares_files: bool = False
    _items: dict[str, Item] = field(default_factory=dict)
    _drafts: dict[str, _Draft] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _missing: dict[str, None] = field(default_factory=dict)
    _split_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    _first_empty: dict[str, str] = field(default_factory=dict)
    _left_out: dict[str, int] = field(default_factory=dict)
    _num_repeated: int = 0
    _shared: set[str] = field(default_factory=set)

    def add(self, row: Row, columns: Columns, find: FindItem, split: str | None) -> None:
        """Add a row.

        Args:
            row: row to add.
            columns: columns to read.
            find: function that finds the file of the row.
            split: split of the row if it has no column of splits; None if it has none.

        Raises:
            UserError: a cell can't be read, a segment ends before it starts, the file is in another
                split already, or it has another label already.
        """
        cells, where = row.cells, row.where
        if columns.split is not None:
            split = self._split(cells.get(columns.split), f"{where}: column {columns.split}")
        targets = self._targets(row, columns)
        kind = ""
        if columns.kind is not None:
            kind = text_of(cells.get(columns.kind), f"{where}: column {columns.kind}").strip()
        source = None
        if columns.source is not None:
            at = f"{where}: column {columns.source}"
            source = clean_text(text_of(cells.get(columns.source), at))
            if not check_caption(source, at):
                return self._leave_out("no source", where)
        if not targets:
            return self._leave_out(f"no {columns.target_role}", where)
        if columns.file is None:
            # Equal texts get the same drawn split.
            group = (source if source is not None else clean_text(targets[0])).lower()
            draft = _Draft(row.id, where, group, None, source, targets, split, kind)
            self._drafts[row.id] = draft
            return None
        value = cells.get(columns.file)
        if value is None or (isinstance(value, str) and not value.strip()):
            return self._leave_out("no file", where)
        key, item = find(value, f"{where}: column {columns.file}")
        if item is None:
            self._missing[key] = None
            return None
        # Another name of the same file.
        key = self._keys.setdefault(item.uri, key)
        item = self._segment(replace(item, key=key), row, columns)
        if split is not None:
            self._check_split(item.key, split, where)
        self._items.setdefault(item.key, item)
        id = item.key if source is None and not self._is_shared(item.key, split) else row.id
        draft = _Draft(id, where, key, item.key, source, targets, split, kind)
        self._merge(draft, columns.target_role in ("label", "frame_labels"))
        return None

    def write(
        self,
        out: AnyPath,
        where: str,
        notes: Sequence[str] = (),
        left_out: dict[str, int] | None = None,
        advice: Callable[[str], str] = lambda name: "",
    ) -> ImportReport:
        """Write the corpus.

        Args:
            out: path or URL of the corpus.
            where: name of the source, for messages.
            notes: further messages for the user.
            left_out: further numbers of what was left out, by reason.
            advice: function that returns the end of the message that all files are missing, for the
                name of the first.

        Raises:
            UserError: there are no examples.
        """
        if not self._drafts:
            if self._missing:
                first = next(iter(self._missing))
                raise UserError(
                    f"{where}: has none of the {len(self._missing)} files that are named, the "
                    f"first is {first!r}{advice(first)}"
                )
            reasons = "".join(f"; {n} rows with {why}" for why, n in self._left_out.items())
            raise UserError(f"{where}: has no examples{reasons}")
        drafts = self._drafts.values()
        are_drawn = not any(draft.split for draft in drafts) and not self._split_of
        drawn = self.rule.draw({draft.group for draft in drafts}) if are_drawn else {}
        splits = [
            drawn[draft.group] if are_drawn else draft.split or self._split_of_file(draft)
            for draft in drafts
        ]
        examples = [
            Example(d.id, split or "train", d.item_key, d.source, tuple(d.targets))
            for d, split in zip(drafts, splits, strict=True)
        ]
        num_unnamed = splits.count(None)
        unnamed = f"{num_unnamed} examples have no split, but others do; they are in train"
        shared = (
            f"{len(self._shared)} files are in several splits; "
            "`intertitle check CORPUS --fix-leaks OUT` writes a corpus without"
        )
        repeated = f"{self._num_repeated} rows repeat a text of the same file; kept"
        all_notes = [
            *([self.rule.describe()] if are_drawn else []),
            *([unnamed] if num_unnamed else []),
            *([shared] if self._shared else []),
            *notes,
            *([repeated] if self._num_repeated else []),
            *(
                f"{number} rows with {reason} left out, the first is {self._first_empty[reason]}"
                for reason, number in self._left_out.items()
            ),
        ]
        corpus = write_corpus(out, self._items.values(), examples)
        all_notes += write_kinds(out, [(d.id, d.kind) for d in drafts if d.kind])
        counts = {**self._left_out, **(left_out or {})}
        return count_import(corpus, self._missing, all_notes, counts)

    def _targets(self, row: Row, columns: Columns) -> list[str]:
        where = f"{row.where}: column {columns.target}"
        value = row.cells.get(columns.target)
        texts = texts_of(value, where)
        if columns.target_role != "frame_labels":
            return [text for text in texts if check_caption(text, where)]
        if texts and not (len(texts) > 1 or isinstance(value, list)):
            raise UserError(
                f'{where}: {format_value(value)}, allowed: a list, such as ["pour", "stir"]'
            )
        if not all(check_caption(text, where) for text in texts):
            raise UserError(f"{where}: {format_value(value)}: a label is empty")
        return texts

    def _split(self, value: Any, where: str) -> str:
        text = text_of(value, where).strip()
        if not text:
            raise UserError(f"{where}: is empty, allowed: the name of a split, such as train")
        return split_named(text) or text

    def _segment(self, item: Item, row: Row, columns: Columns) -> Item:
        """Return a video's item as its segment, if the row has a start or an end."""
        times = [
            None if column is None else seconds_of(row.cells.get(column), f"{row.where}: {column}")
            for column in (columns.start, columns.end)
        ]
        if item.kind != "video" or times == [None, None]:
            return item
        start_s, end_s = times
        if end_s is not None and end_s <= (start_s or 0):
            raise UserError(f"{row.where}: ends at {end_s:g} s, before it starts")
        end = "" if end_s is None else _exact(end_s)
        key = f"{item.key}#{_exact(start_s or 0)}-{end}"
        return replace(item, key=key, start_s=start_s, end_s=end_s)

    def _check_split(self, key: str, split: str, where: str) -> None:
        first_split, first = self._split_of.setdefault(key, (split, where))
        if first_split != split and self.shares_files:
            self._shared.add(key)
        elif first_split != split:
            raise UserError(
                f"{where}: {key!r} is in {split}, but in {first_split} at {first}; allowed: one "
                "split for a file"
            )

    def _is_shared(self, key: str, split: str | None) -> bool:
        """Return whether a file is in another split, too, and was in that one first."""
        return key in self._shared and self._split_of[key][0] != split

    def _split_of_file(self, draft: _Draft) -> str | None:
        """Return the split that other rows give to the file of an example, or None."""
        return self._split_of.get(draft.item_key or "", (None, ""))[0]

    def _merge(self, draft: _Draft, is_label: bool) -> None:
        """Add an example with an item, or its references to the example that there is."""
        split = draft.split if self.shares_files else None
        name = f"{draft.item_key}\0{split or ''}\0{draft.source or ''}"
        earlier = self._drafts.setdefault(name, draft)
        if earlier is draft:
            return
        if not is_label:
            self._num_repeated += any(text in earlier.targets for text in draft.targets)
            earlier.targets += draft.targets
        elif earlier.targets != draft.targets:
            raise UserError(
                f"{draft.where}: {draft.item_key!r} has {format_value(draft.targets)}, but "
                f"{format_value(earlier.targets)} at {earlier.where}; allowed: one for a file"
            )

    def _leave_out(self, reason: str, where: str) -> None:
        self._first_empty.setdefault(reason, where)
        self._left_out[reason] = self._left_out.get(reason, 0) + 1


def _exact(seconds: float) -> str:
    """Return a number without needless digits, but with all that make it this number."""
    short = f"{seconds:g}"
    return short if float(short) == seconds else repr(seconds)
