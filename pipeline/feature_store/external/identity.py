"""Whether imported features are those of a corpus."""

from __future__ import annotations

import pyarrow as pa

from intertitle.pipeline.corpus import Corpus, items_of
from intertitle.pipeline.errors import UserError
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
        names = [row[f"source{end}"].rsplit("/", 1)[-1] for end in ("", "_recorded")]
        if names[0] != names[1] or row["selection"] != row["selection_recorded"]:
            raise UserError(
                f"{store.path}: features of another corpus than {corpus.path}: its item "
                f"{row['key']!r} is {names[1]} ({row['selection_recorded']}), here it is "
                f"{names[0]} ({row['selection']})"
            )
