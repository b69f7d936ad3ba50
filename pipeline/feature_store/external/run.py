"""The function `import_features`: from a source of arrays to a published snapshot."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from upath import UPath

from intertitle.pipeline.corpus import Corpus, Item, items_of
from intertitle.pipeline.errors import UserError, one_line
from intertitle.pipeline.feature_store.external.check import NUM_SAMPLED, common_shape, to_frames
from intertitle.pipeline.feature_store.external.identity import check_same_make
from intertitle.pipeline.feature_store.external.keys import ItemKeys
from intertitle.pipeline.feature_store.external.shard_writer import ShardWriter
from intertitle.pipeline.feature_store.external.sources import (
    Arrays,
    SourceOptions,
    Unusable,
    open_source,
)
from intertitle.pipeline.feature_store.fingerprint import Fingerprint, external_fingerprint
from intertitle.pipeline.feature_store.shards import (
    SUFFIXES,
    Format,
    ItemFeatures,
)
from intertitle.pipeline.feature_store.snapshot import (
    ItemRecord,
    Snapshot,
    current_snapshot,
    publish,
    table_of,
)
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage.lock import single_writer_lock
from intertitle.pipeline.storage.paths import AnyPath, as_path

_STAGE = "import"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Options of `import_features`.

    Attributes:
        network: name of the network that computed the features.
        features: "pooled" or "grid".
        source: options of the source.
        fps: number of frames per second.
        same_as: store with features of the same network, whose fingerprint the new store gets;
            None makes a fingerprint from the hash of the features.
        format: file format of the shards.
        shard_items: number of items per shard.
    """

    network: str
    features: str = "pooled"
    source: SourceOptions = field(default_factory=SourceOptions)
    fps: float = 1.0
    same_as: UPath | None = None
    format: Format = "arrow"
    shard_items: int = 256

    def __post_init__(self) -> None:
        if not self.network.strip():
            raise UserError("--network: empty, allowed: the name of the network")
        if self.features not in ("pooled", "grid"):
            raise UserError(f"features: {self.features!r}, allowed: pooled, grid")
        if self.format not in SUFFIXES:
            raise UserError(f"format: {self.format!r}, allowed: {', '.join(SUFFIXES)}")
        if self.shard_items < 1:
            raise UserError(f"shard_items: {self.shard_items}, allowed: 1 or more")
        if not 0 < self.fps < float("inf"):
            raise UserError(f"fps: {self.fps}, allowed: more than 0")


@dataclass(frozen=True, slots=True)
class FeatureImport:
    """Result of `import_features`; every item of the corpus is either stored or quarantined.

    Attributes:
        snapshot: id of the published snapshot.
        fingerprint: fingerprint of the features.
        arrays: number of arrays in the source.
        stored: number of items that have features.
        frames: number of frames of all stored items.
        quarantined: records of the items without features, with the reasons.
        by_name: number of items whose array has the name of their file instead of their key.
        unknown: keys of arrays that name no item of the corpus.
    """

    snapshot: str
    fingerprint: Fingerprint
    arrays: int
    stored: int
    frames: int
    quarantined: tuple[ItemRecord, ...]
    by_name: int
    unknown: tuple[str, ...]


def import_features(
    source: Path,
    corpus: Corpus,
    store: AnyPath,
    options: ImportOptions,
    on_progress: Callable[[float, float], None] = lambda *_: None,
) -> FeatureImport:
    """Write features that another program computed to a store, and publish a snapshot.

    Items that have features in the store already, and no array in the source, keep them.

    Args:
        source: folder or file with the features, see `open_source`.
        corpus: corpus of the items.
        store: path or URL of the store.
        options: options of the import.
        on_progress: callback with the number of finished items and the number of all items.

    Raises:
        UserError: the source cannot be read, has no array for any item of the corpus, or has two
            for one; or the store holds features with another fingerprint or of other items, or is
            being written to.
    """
    folder = as_path(store)
    arrays = open_source(source, options.source)
    same_as = _same_network(options)
    shape = common_shape(islice(arrays(), NUM_SAMPLED), options.features, str(source))
    with single_writer_lock(folder) as check_held:
        before = current_snapshot(folder)
        fingerprints = {
            str(path): fingerprint
            for path, fingerprint in (
                (options.same_as, same_as),
                (folder, before and before.fingerprint),
            )
            if fingerprint
        }
        for path, stored in fingerprints.items():
            # What is known before all features are read and written.
            expected = external_fingerprint(
                options.network, options.features, shape, stored.weights_sha256, options.format
            )
            check_same_make(path, stored, expected, folder)
        writer = ShardWriter(folder, options.format, options.shard_items, shape)
        run = _Import(source, corpus, writer, options, before)
        run.read(arrays(), shape, on_progress)
        weights = same_as.weights_sha256 if same_as else run.content_sha256()
        fingerprint = external_fingerprint(
            options.network, options.features, shape, weights, options.format
        )
        for path, stored in fingerprints.items():
            check_same_make(path, stored, fingerprint, folder)
        records = run.records()
        shards = {
            **(before.shards if before else {}),
            **{shard.name: shard for shard in writer.shards},
        }
        named = {name: shards[name] for name in {r.shard: None for r in records if r.shard}}
        versions = ({"source": source.name, "arrays": str(run.num_arrays)},)
        snapshot = Snapshot(fingerprint, named, table_of(records), versions)
        name = publish(folder, snapshot, check_held)
    return FeatureImport(
        snapshot=name,
        fingerprint=fingerprint,
        arrays=run.num_arrays,
        stored=sum(record.is_stored for record in records),
        frames=sum(record.num_frames or 0 for record in records),
        quarantined=tuple(snapshot.quarantined()),
        by_name=run.by_name,
        unknown=tuple(run.unknown),
    )


def _same_network(options: ImportOptions) -> Fingerprint | None:
    if options.same_as is None:
        return None
    fingerprint = FeatureStore(options.same_as).snapshot.fingerprint
    if not fingerprint.is_external:
        raise UserError(
            f"--same-as {options.same_as}: features that {fingerprint.backbone} computed here, "
            "allowed: a store of `intertitle import-features`"
        )
    return fingerprint


class _Import:
    """The items of a corpus and the arrays that were read for them."""

    def __init__(
        self,
        source: Path,
        corpus: Corpus,
        writer: ShardWriter,
        options: ImportOptions,
        before: Snapshot | None,
    ) -> None:
        self._source, self._corpus, self._writer, self._options = source, corpus, writer, options
        self._items: list[Item] = items_of(corpus.item_table())
        self._keys = ItemKeys(item.key for item in self._items)
        self._before = {r.key: r for r in before.records() if r.is_stored} if before else {}
        unnamed = sorted(self._before.keys() - {item.key for item in self._items})
        if unnamed:
            raise UserError(
                f"the store has features of {len(unnamed)} items that {corpus.path} lacks, such as "
                f"{unnamed[0]!r}; choose another --out"
            )
        self._unusable: dict[str, Unusable] = {}
        self._array_of: dict[str, str] = {}
        self._digests: dict[str, bytes] = {}
        # Shard, row and number of frames of each stored item.
        self.stored: dict[str, tuple[int, int, int]] = {}
        self.num_arrays = self.by_name = 0
        self.unknown: list[str] = []

    def read(
        self, arrays: Arrays, shape: tuple[int, ...], on_progress: Callable[[float, float], None]
    ) -> None:
        """Check all arrays, and write those that are features of an item."""
        for array_key, array in arrays:
            self.num_arrays += 1
            key = self._keys.find(array_key)
            if key is None:
                self.unknown.append(array_key)
                continue
            if key in self._array_of:
                raise UserError(
                    f"{self._source}: two arrays for item {key!r}: {self._array_of[key]!r} and "
                    f"{array_key!r}"
                )
            self._array_of[key] = array_key
            self.by_name += key != array_key
            values = to_frames(array, self._options.features, shape)
            if isinstance(values, Unusable):
                self._unusable[key] = replace(values, message=f"{array_key}: {values.message}")
            else:
                self._store(key, values)
            on_progress(len(self._array_of), len(self._items))
        self._writer.flush()
        if not self._array_of:
            example = f", such as {self.unknown[0]!r}" if self.unknown else ""
            raise UserError(
                f"{self._source}: none of its {self.num_arrays} keys{example} is an item of "
                f"{self._corpus.path}, such as {self._items[0].key!r}: features of another corpus?"
                if self._items
                else f"{self._corpus.path}: no items, so none can have features"
            )
        if not self.stored:
            causes = Counter(problem.error for problem in self._unusable.values())
            raise UserError(f"{self._source}: no usable features: {dict(causes)}")

    def _store(self, key: str, values: NDArray[np.float32]) -> None:
        times_s = np.arange(len(values)) / self._options.fps
        place = self._writer.add(ItemFeatures(key, times_s, values))
        self.stored[key] = (*place, len(values))
        digest = hashlib.sha256(repr(values.shape).encode())
        digest.update(values.tobytes())
        self._digests[key] = digest.digest()

    def content_sha256(self) -> str:
        """Return a hash of the features of all items, whatever the order of the source."""
        digest = hashlib.sha256()
        for key in sorted(self._digests):
            digest.update(key.encode() + b"\0" + self._digests[key])
        return digest.hexdigest()

    def records(self) -> list[ItemRecord]:
        """Return the outcome of every item, in the order of the corpus."""
        return list(self._records())

    def _records(self) -> Iterator[ItemRecord]:
        for item in self._items:
            record = ItemRecord(item.key, item.uri, item.selection)
            if item.key in self.stored:
                shard, row, num_frames = self.stored[item.key]
                name = self._writer.shards[shard].name
                yield replace(record, shard=name, row=row, num_frames=num_frames)
                continue
            earlier = self._before.get(item.key)
            is_same = earlier and (earlier.source, earlier.selection) == (item.uri, item.selection)
            if earlier and is_same and item.key not in self._unusable:
                yield earlier
                continue
            problem = self._unusable.get(item.key) or Unusable(
                "missing", f"{self._source.name}: no array for item {item.key}"
            )
            message = one_line(problem.message)
            yield replace(record, stage=_STAGE, error=problem.error, message=message)
