"""The function `check_corpus`, and `without_leaks`, which writes a corpus whose splits share
nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from intertitle.pipeline.corpus import (
    TABLES,
    Corpus,
    absolute_uri,
    examples_of,
    items_of,
    name_target_language,
    write_corpus,
)
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.external.identity import check_same_corpus
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.inspection.check.duplicates import (
    Duplicate,
    same_files,
    similar_features,
    similar_pictures,
)
from intertitle.pipeline.inspection.check.files import ReadItem, read_items
from intertitle.pipeline.inspection.check.leaks import Leak, Members, find_leaks
from intertitle.pipeline.inspection.check.texts import (
    FewReferences,
    SplitTexts,
    few_references,
    summarize_texts,
)
from intertitle.pipeline.storage.paths import AnyPath, as_path


@dataclass(frozen=True, slots=True)
class Problem:
    """An item whose file cannot be read.

    Attributes:
        key: key of the item.
        error: class of the failure, as of a quarantined item.
        message: description in one line.
    """

    key: str
    error: str
    message: str


@dataclass(frozen=True)
class CorpusReport:
    """Result of `check_corpus`.

    Attributes:
        corpus: path or URL of the corpus.
        items: number of items by kind.
        splits: texts of each split.
        without_examples: number of items that no example names.
        few_references: examples with fewer references than most; None if the numbers vary anyway.
        problems: items whose files cannot be read.
        checked: numbers of items whose files and whose features were compared.
        duplicates: pairs of equal or similar items, those in several splits first.
        crossing: number of the first pairs that are in several splits.
        leaks: what each two splits share.
        left_out: ids of the examples to leave out so that the splits share nothing.
    """

    corpus: str
    items: dict[str, int]
    splits: tuple[SplitTexts, ...]
    without_examples: int
    few_references: FewReferences | None
    problems: tuple[Problem, ...]
    checked: dict[str, int]
    duplicates: tuple[Duplicate, ...]
    crossing: int
    leaks: tuple[Leak, ...]
    left_out: frozenset[str]

    def num_duplicates(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of pairs within a split and in several splits, by evidence."""
        within = Counter(pair.evidence for pair in self.duplicates[self.crossing :])
        across = Counter(pair.evidence for pair in self.duplicates[: self.crossing])
        return {name: (within[name], across[name]) for name in within | across}


def check_corpus(
    corpus: Corpus,
    store: FeatureStore | None = None,
    *,
    read_files: bool = True,
    on_progress: Callable[[float, float], None] = lambda *_: None,
) -> CorpusReport:
    """Check a corpus before a training.

    Args:
        corpus: corpus to check.
        store: features of its items, which are compared too; None compares files alone.
        read_files: whether the items' files are read, for their hashes and pictures.
        on_progress: callback with the number of read files and the number of all files.

    Raises:
        UserError: the features are those of another corpus.
    """
    if store is not None:
        check_same_corpus(store, corpus)
    table, examples = corpus.item_table(), corpus.example_table()
    items, members = items_of(table), Members(examples)
    read = list(read_items(str(corpus.path), items, on_progress)) if read_files else []
    duplicates = [*members.duplicates, *same_files(read)]
    repeated = {pair.second for pair in duplicates if pair.evidence == "identical"}
    duplicates += similar_pictures([entry for entry in read if entry.item.key not in repeated])
    compared = 0
    if store is not None:
        keys = [item.key for item in items if item.key in store and item.key not in repeated]
        compared = len(keys)
        known = {(pair.first, pair.second) for pair in duplicates}
        duplicates += [p for p in similar_features(store, keys) if (p.first, p.second) not in known]
    leaks, left_out = find_leaks(members, duplicates)
    crossing = [pair for pair in duplicates if members.crosses(pair)]
    named = pc.is_in(table["key"], value_set=examples["item_key"].drop_null())
    return CorpusReport(
        corpus=str(corpus.path),
        items=dict(Counter(item.kind for item in items)),
        splits=tuple(summarize_texts(examples, corpus.target_language)),
        without_examples=len(items) - (pc.sum(named).as_py() or 0),
        few_references=few_references(examples),
        problems=tuple(map(_problem, (entry for entry in read if entry.error))),
        checked={"files": sum(entry.error is None for entry in read), "features": compared},
        duplicates=(*crossing, *(p for p in duplicates if not members.crosses(p))),
        crossing=len(crossing),
        leaks=tuple(leaks),
        left_out=frozenset(left_out),
    )


def _problem(entry: ReadItem) -> Problem:
    return Problem(entry.item.key, entry.error or "", entry.message or "")


def check_new_corpus(out: UPath) -> None:
    """Check that a folder that is to be written is no corpus, neither the checked one nor another.

    Raises:
        UserError: it is one.
    """
    if any((out / name).exists() for name in TABLES):
        raise UserError(f"--fix-leaks {out}: a corpus, allowed: a new folder")


def without_leaks(corpus: Corpus, report: CorpusReport, out: AnyPath) -> Corpus:
    """Write a corpus without the examples that a report leaves out, and items without examples.

    Items that had no example before stay. The files stay where they are.

    Args:
        corpus: corpus that was checked.
        report: result of `check_corpus`.
        out: path or URL of the new corpus.

    Raises:
        UserError: `out` is a corpus.
    """
    folder = as_path(out)
    check_new_corpus(folder)
    examples = corpus.example_table()
    ids = pa.array(sorted(report.left_out), pa.string())
    left = examples.filter(pc.invert(pc.is_in(examples["id"], value_set=ids)))
    table = corpus.item_table()
    before, after = (
        np.asarray(pc.is_in(table["key"], value_set=part["item_key"].drop_null()))
        for part in (examples, left)
    )
    items = items_of(table.filter(pa.array(after | ~before)))
    placed = (replace(item, uri=absolute_uri(corpus.path, item)) for item in items)
    written = write_corpus(folder, placed, examples_of(left))
    if corpus.target_language is not None:
        name_target_language(folder, corpus.target_language)
    return written
