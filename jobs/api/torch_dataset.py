"""A corpus and its features as a dataset of PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage.paths import AnyPath, as_path
from intertitle.training.data.arrays.joined_stores import JoinedStores
from intertitle.training.data.data_ref import StorePaths, store_paths


@dataclass(frozen=True, slots=True)
class FeatureExample:
    """An example with the features of its item.

    Attributes:
        id: identifier of the example.
        features: float32, [T, D], or [T, cells, D] of a grid.
        source: question or source sentence; None where the task has none.
        targets: references, answers or labels.
    """

    id: str
    features: Tensor
    source: str | None
    targets: tuple[str, ...]


class FeatureDataset(Dataset[FeatureExample]):
    """The examples of a split with their features, by index.

    Examples of quarantined items are left out. Features are read from the store when an example is
    taken, so a `DataLoader` may use several workers. Videos differ in length: pass a `collate_fn`.

    Args:
        corpus: folder or URL of the corpus.
        features: folder or URL of its feature store, or several whose features are concatenated.
        split: split of the corpus.

    Attributes:
        left_out: identifiers of the examples whose item is in quarantine in any store.

    Raises:
        UserError: there is no such corpus, store or split, or no store is given.

    Example:
        >>> dataset = intertitle.FeatureDataset("corpus", "features", split="train")
        >>> loader = torch.utils.data.DataLoader(dataset, batch_size=4, collate_fn=list)
        >>> len(next(iter(loader)))
        4
    """

    def __init__(self, corpus: str | AnyPath, features: StorePaths, split: str) -> None:
        paths = store_paths(features)
        if not paths:
            raise UserError("features: none, expected the folder or URL of a feature store")
        self._stores = JoinedStores([FeatureStore(path) for path in paths])
        self._examples, left_out = [], []
        for example in Corpus(as_path(corpus)).examples(split):
            key = example.item_key
            if key is not None and all(key in store for store in self._stores.stores):
                self._examples.append(example)
            else:
                left_out.append(example.id)
        self.left_out = tuple(left_out)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> FeatureExample:
        example = self._examples[index]
        assert example.item_key is not None
        features = torch.from_numpy(self._stores.features(example.item_key).copy())
        return FeatureExample(example.id, features, example.source, tuple(example.targets))
