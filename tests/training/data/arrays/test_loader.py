"""Batches that are assembled ahead."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from intertitle.training.data.arrays import loader as loader_module
from intertitle.training.data.arrays.flat_features import FlatFeatures
from intertitle.training.data.arrays.loader import Loader
from intertitle.training.data.batch import Batch
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.sampler import Rows
from intertitle.training.data.vocab import Vocabs
from tests.training.conftest import split_of


def same(one: Batch, other: Batch) -> bool:
    values = ((getattr(one, name), getattr(other, name)) for name in Batch.__slots__)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in values)


def test_a_thread_assembles_the_same_batches_in_the_same_order(
    things: DataRef, words: Vocabs
) -> None:
    train, names = split_of(things, "train", words), []

    def parts(rows: Rows) -> list[Batch]:
        names.append(threading.current_thread().name)
        return [train.batch(rows[:2]), train.batch(rows[2:])]

    loader = Loader(parts, torch.device("cpu"))
    loader._ahead = 3
    batches = [np.arange(n, n + 4) for n in range(6)]
    loader.begin(batches[1:])
    for rows in batches[1:]:
        first, second = loader.take(rows)
        assert same(first, train.batch(rows[:2]))
        assert same(second, train.batch(rows[2:]))
    assert all(name.startswith("loader") for name in names)
    # A batch that was not expected is assembled at once.
    assert same(loader.take(batches[0])[0], train.batch(batches[0][:2]))
    assert names[-1] == threading.current_thread().name


def test_no_thread_takes_cores_from_a_cpu(things: DataRef, words: Vocabs) -> None:
    train, names = split_of(things, "train", words), set()

    def parts(rows: Rows) -> list[Batch]:
        names.add(threading.current_thread().name)
        return [train.batch(rows)]

    loader, rows = Loader(parts, torch.device("cpu")), np.arange(4)
    loader.begin([rows, rows])
    loader.take(rows)
    assert names == {threading.current_thread().name}


def test_an_error_of_the_thread_is_that_of_the_step() -> None:
    def parts(rows: Rows) -> list[Batch]:
        raise OSError("the disk is gone")

    loader, rows = Loader(parts, torch.device("cpu")), np.arange(4)
    loader._ahead = loader_module.AHEAD
    loader.begin([rows])
    with pytest.raises(OSError, match="the disk is gone"):
        loader.take(rows)


def test_features_are_the_same_wherever_they_are_kept(things: DataRef, words: Vocabs) -> None:
    train = split_of(things, "train", words)
    features = train._features
    assert isinstance(features, FlatFeatures)
    items = np.arange(len(train.examples))[::-1].copy()
    expected, num_frames = features.padded(items)
    features.place(torch.device("cpu"), "device")
    assert features._resident is None
    # As on a GPU.
    assert features._flat is not None
    flat = torch.from_numpy(features._flat)
    features._resident = torch.cat([flat, torch.zeros(1, flat.shape[1])])
    gathered, numbers = features.padded(items)
    assert torch.equal(gathered, expected)
    assert np.array_equal(numbers, num_frames)
