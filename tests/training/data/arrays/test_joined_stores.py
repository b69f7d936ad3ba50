"""Features of several stores, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from intertitle.pipeline.errors import UserError
from intertitle.training.data.arrays import flat_features
from intertitle.training.data.data_ref import Data, DataRef, check_fingerprints
from intertitle.training.data.dataset import Items
from intertitle.training.data.vocab import Vocabs
from tests.training.conftest import (
    DIM,
    Shown,
    coloured_things,
    features_of,
    open_data_ref,
    split_of,
    write_data,
    write_features,
)


def motion_of(shown: list[Shown], dim: int = 3) -> list[Shown]:
    """Other features of the same items, with as many frames."""
    rng = np.random.default_rng(1)
    return [
        replace(s, features=rng.random((*s.features.shape[:-1], dim), np.float32)) for s in shown
    ]


@pytest.fixture
def joined(tmp_path: Path) -> DataRef:
    """A corpus whose first item is in quarantine in one store, and the second in the other."""
    shown = coloured_things(20)
    data = write_data(tmp_path, shown, quarantined=("item 1",))
    motion = write_features(tmp_path / "motion", motion_of(shown), quarantined=("item 2",))
    return open_data_ref(data.corpus, [features_of(data).path, motion], "pooled")


def test_features_are_concatenated_and_an_item_has_to_be_in_every_store(
    joined: DataRef, words: Vocabs
) -> None:
    assert joined.feature_dim == DIM + 3
    train = split_of(joined, "train", words)
    assert train.left_out == ("about-item 1", "about-item 2")
    appearance = {s.key: s.features for s in coloured_things(20)}
    motion = {s.key: s.features for s in motion_of(coloured_things(20))}
    for n, example in enumerate(train.examples):
        key = str(example.item_key)
        expected = np.concatenate([appearance[key], motion[key]], -1)
        assert np.array_equal(train.features(n), expected)
    items = Items(Data(joined))
    assert items.left_out == ("item 1", "item 2")
    assert items.features(0).shape == (items.num_frames(0), DIM + 3)


def test_batches_are_the_same_from_memory_and_from_files(
    joined: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, mapped = (split_of(joined, "train", words) for _ in range(2))
    rows = np.arange(len(copied))
    expected = copied.batch(rows).features
    pairs = zip(copied.example_index(rows), copied.targets(rows), strict=True)
    assert torch.equal(copied.with_targets(list(pairs)).features, expected)
    monkeypatch.setattr(flat_features, "MAX_COPIED_BYTES", 0)
    assert torch.equal(mapped.batch(rows).features, expected)


def test_a_reference_survives_json_and_pins_its_order(joined: DataRef) -> None:
    assert DataRef.from_dict(joined.facts()) == replace(joined, pin=None)
    stores = Data(joined).features.stores
    check_fingerprints(stores, joined.fingerprints)
    with pytest.raises(UserError, match=r"features are .*, the model was trained on"):
        check_fingerprints(stores[::-1], joined.fingerprints)
    with pytest.raises(UserError, match=r"--features: 1 of them, .* trained on 2 together"):
        check_fingerprints(stores[:1], joined.fingerprints)


def test_other_numbers_of_frames_are_named(joined: DataRef, tmp_path: Path, words: Vocabs) -> None:
    shown = [replace(s, features=s.features[:1]) for s in motion_of(coloured_things(20))]
    pooled = write_features(tmp_path / "one", shown)
    data = open_data_ref(joined.corpus, [joined.stores[0], pooled], "pooled")
    with pytest.raises(UserError, match=r"one: item 'item \d+' has 1 frames, in .* it has [2-6];"):
        split_of(data, "train", words)


def test_stores_that_do_not_go_together_are_refused(joined: DataRef, tmp_path: Path) -> None:
    first, _ = joined.stores
    with pytest.raises(UserError, match="given twice"):
        open_data_ref(joined.corpus, [first, first], "pooled")
    shown = coloured_things(20)
    for cells in (2, 3):
        grids = [replace(s, features=s.features[:, None].repeat(cells, 1)) for s in shown]
        write_features(tmp_path / f"{cells}", grids)
    with pytest.raises(UserError, match=r"a grid of 3 cells, that of .* has 2; grids are joined"):
        open_data_ref(joined.corpus, [tmp_path / "2", tmp_path / "3"], "grid")
