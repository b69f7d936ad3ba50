"""Running text in lanes and windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.sampler import StreamSampler
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID

lines = st.lists(st.lists(st.integers(4, 99), max_size=6), min_size=1, max_size=9)


def test_a_line_follows_the_one_before_as_a_sentence_of_its_own() -> None:
    stream = LanguageModelDataset([[7, 8], [], [9]], num_streams=1, bptt_len=4)
    one, other = (stream.batch([row]) for row in range(2))
    assert one.inputs.tolist() == [[BOS_ID, 7, 8, BOS_ID]]
    assert one.targets.tolist() == [[7, 8, EOS_ID, EOS_ID]]
    assert other.inputs.tolist() == [[BOS_ID, 9, PAD_ID, PAD_ID]]
    assert other.targets.tolist() == [[9, EOS_ID, PAD_ID, PAD_ID]]
    assert other.target_lengths.tolist() == [2]


@given(lines, st.integers(1, 5), st.integers(1, 7))
def test_every_token_is_predicted_once_and_in_order(
    text: list[list[int]], num_lanes: int, window: int
) -> None:
    stream = LanguageModelDataset(text, num_lanes, window)
    expected = [token for line in text for token in (*line, EOS_ID)]
    windows = [stream.batch(rows) for rows in stream.windows()]
    for batch in windows:
        inside = np.arange(window) < batch.target_lengths.numpy()[:, None]
        assert ((batch.targets.numpy() != PAD_ID) == inside).all()
    lanes = np.concatenate([batch.targets.numpy() for batch in windows], 1)
    assert lanes[lanes != PAD_ID].tolist() == expected
    inputs = np.concatenate([batch.inputs.numpy() for batch in windows], 1)
    before = [BOS_ID, *(BOS_ID if token == EOS_ID else token for token in expected[:-1])]
    assert inputs[lanes != PAD_ID].tolist() == before
    rows = np.concatenate(stream.windows())
    assert sorted(rows.tolist()) == list(range(len(stream)))
    assert stream.num_targets(rows) == len(expected)


@given(lines, st.integers(1, 5), st.integers(1, 7), st.integers(0, 9))
def test_an_epoch_reads_the_same_text_from_another_place(
    text: list[list[int]], num_lanes: int, window: int, number: int
) -> None:
    stream = LanguageModelDataset(text, num_lanes, window)
    rows = np.stack(StreamSampler(stream, seed=1).epoch(number), 1).reshape(-1)
    assert rows.tolist() == np.roll(np.arange(len(stream)), -rows[0]).tolist()


@pytest.mark.parametrize(
    ("num_tokens", "num_lanes", "lanes", "windows"),
    # Of ten windows three lanes get four each; the last has two.
    [(40, 3, 3, 4), (37, 3, 3, 4), (36, 3, 3, 3), (40, 4, 4, 3), (40, 10, 10, 1), (8, 9, 2, 1)],
)
def test_a_text_has_as_many_lanes_as_it_fills(
    num_tokens: int, num_lanes: int, lanes: int, windows: int
) -> None:
    stream = LanguageModelDataset([[7] * (num_tokens - 1)], num_lanes, bptt_len=4)
    assert (stream.num_lanes, stream.num_windows) == (lanes, windows)
    assert [len(rows) for rows in stream.windows()] == [lanes] * windows


def test_epochs_begin_at_different_places() -> None:
    sampler = StreamSampler(LanguageModelDataset([[7] * 999], num_streams=2, bptt_len=4), seed=1)
    assert len({int(sampler.epoch(number)[0][0]) for number in range(9)}) > 5
