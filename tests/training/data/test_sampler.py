"""The order of a training: exact, and resumed anywhere."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from intertitle.training.data.sampler import BatchSampler, Cursor, share, shares

lengths = st.lists(st.integers(2, 40), min_size=1, max_size=80).map(np.array)
samplers = st.builds(
    BatchSampler,
    lengths,
    batch_tokens=st.integers(1, 200),
    pool_batches=st.integers(1, 5),
    seed=st.integers(0, 3),
)


def told(batches) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


@given(lengths, st.integers(1, 200), st.integers(1, 5), st.integers(0, 9))
def test_an_epoch_holds_each_row_once_in_batches_within_the_budget(
    lengths: np.ndarray, batch_tokens: int, pool_batches: int, epoch: int
) -> None:
    batches = BatchSampler(lengths, batch_tokens, pool_batches, 0).epoch(epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) >= 1
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= batch_tokens


@given(st.lists(st.integers(), min_size=1, max_size=20, unique=True), st.integers(1, 6))
def test_workers_share_a_batch_whole_and_evenly(rows: list[int], world_size: int) -> None:
    shares = [share(np.array(rows), rank, world_size) for rank in range(world_size)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_worker_takes_no_step_for_a_batch_that_has_no_row_for_it() -> None:
    batches = [np.array([5, 3, 8]), np.array([1]), np.array([2, 4])]
    parts = [[rows.tolist() for rows in shares(batches, rank, 2)] for rank in range(2)]
    assert parts == [[[5, 8], [1], [2]], [[3], [4]]]


def test_a_training_begins_with_the_first_batch_of_the_first_epoch() -> None:
    assert Cursor() == Cursor(epoch=0, batch=0)


def test_the_order_is_fixed_by_the_seed_and_the_epoch() -> None:
    lengths = np.random.default_rng(0).integers(5, 30, 200)

    def order(seed: int, epoch: int) -> list[list[int]]:
        return told(BatchSampler(lengths, 200, 3, seed).epoch(epoch))

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    # Not the same batches in another order, either.
    assert {frozenset(batch) for batch in order(0, 1)} != {frozenset(b) for b in order(0, 2)}


def test_little_of_a_batch_is_padding_and_batches_are_not_in_order_of_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 20_000)
    batches = BatchSampler(lengths, 2048, 100, 0).epoch(0)
    spent = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert 1 - lengths.sum() / spent < 0.05
    longest = [lengths[batch].max() for batch in batches]
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.3


def test_a_pool_holds_so_many_average_batches() -> None:
    # Five tokens a row on average, so four rows a batch, and twelve in a pool of three batches.
    lengths = np.array([1] * 90 + [41] * 10)
    batches = BatchSampler(lengths, 20, 3, 0).epoch(0)
    # Twenty short rows would fit a batch, but no more than a pool has come together.
    assert max(map(len, batches)) == 12


def test_a_batch_may_be_exactly_of_the_budget_and_no_token_more() -> None:
    lengths = np.array([4, 4, 4, 4, 4, 4])

    def sizes(batch_tokens: int) -> list[int]:
        return sorted(len(batch) for batch in BatchSampler(lengths, batch_tokens, 9, 0).epoch(0))

    assert sizes(24) == [6]
    assert sizes(12) == [3, 3]
    assert sizes(11) == [2, 2, 2]
    assert sizes(4) == sizes(3) == [1] * 6
