"""Checks that imported features are those of a corpus, and of the network of a store."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from upath import UPath

from intertitle.pipeline.corpus import Corpus, items_of, parse_member
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.fingerprint import Fingerprint
from intertitle.pipeline.feature_store.store import FeatureStore


def check_same_corpus(store: FeatureStore, corpus: Corpus) -> None:
    """Check that imported features are those of a corpus: equal keys name equal files.

    Computed features need no check, because `precompute` compares the files.

    Raises:
        UserError: an item of the corpus has the key of another file in the store.
    """
    if not store.snapshot.fingerprint.is_external:
        return
    columns = ["key", "source", "selection"]
    recorded = store.snapshot.table.select(columns)
    items = corpus.item_table()
    selections = [item.selection for item in items_of(items)]
    own = pa.table([items["key"], items["uri"], pa.array(selections, pa.string())], columns)
    joined = own.join(recorded, "key", join_type="inner", right_suffix="_recorded")
    for row in joined.to_pylist():
        names = [_file_name(row[f"source{end}"]) for end in ("", "_recorded")]
        if names[0] != names[1] or row["selection"] != row["selection_recorded"]:
            raise UserError(
                f"{store.path}: features of another corpus than {corpus.path}: its item "
                f"{row['key']!r} is {names[1]} ({row['selection_recorded']}), here it is "
                f"{names[0]} ({row['selection']})"
            )


def _file_name(uri: str) -> str:
    """Return the name of a file without its folders, with the range of its bytes if it has one."""
    member = parse_member(uri)
    if member is None:
        return uri.rsplit("/", 1)[-1]
    return replace(member, uri=member.uri.rsplit("/", 1)[-1]).to_uri()


def check_same_make(path: str, stored: Fingerprint, fingerprint: Fingerprint, store: UPath) -> None:
    """Check that the features of a store, and those to import, have equal fingerprints.

    Raises:
        UserError: the features are of another make; the message names the differences.
    """
    if stored.features_json() == fingerprint.features_json():
        return
    hint = "; choose another --out, or --same-as if the network is the same"
    raise UserError(
        f"{path}: holds features of another make: {'; '.join(stored.differences(fingerprint))}"
        f"{hint if path == str(store) else ''}"
    )
