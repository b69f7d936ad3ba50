"""Padding, lengths and the shift."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from intertitle.training.data.batch import Row, make_batch, make_stream_batch
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID

words = st.lists(st.integers(4, 99), max_size=6)
rows = st.lists(st.tuples(st.integers(1, 5), words), min_size=1, max_size=5)


def test_each_target_is_the_word_after_its_input() -> None:
    frames = [np.ones((2, 3), np.float32), np.full((1, 3), 2, np.float32)]
    rows = [Row(frames[0], (), [7, 8]), Row(frames[1], (), [9])]
    batch = make_batch(rows, sentences=True)
    assert batch.inputs.tolist() == [[BOS_ID, 7, 8], [BOS_ID, 9, PAD_ID]]
    assert batch.targets.tolist() == [[7, 8, EOS_ID], [9, EOS_ID, PAD_ID]]
    assert batch.target_lengths.tolist() == [3, 2]
    assert batch.frame_lengths.tolist() == [2, 1]
    assert batch.features.tolist() == [[[1, 1, 1], [1, 1, 1]], [[2, 2, 2], [0, 0, 0]]]
    assert batch.target_places.tolist() == [0, 1, 2, 3, 4]
    assert batch.source.shape == (2, 0) and batch.source_lengths.tolist() == [0, 0]


def test_windows_of_running_text_have_neither_frames_nor_a_source() -> None:
    inputs, targets = np.array([[1, 7, 8], [1, 9, PAD_ID]]), np.array([[7, 8, 2], [9, 2, PAD_ID]])
    batch = make_stream_batch(inputs, targets)
    assert batch.inputs.tolist() == inputs.tolist()
    assert batch.targets.tolist() == targets.tolist()
    assert batch.target_lengths.tolist() == [3, 2]
    assert batch.weights.tolist() == [1, 1]
    assert batch.features.shape == (2, 0, 0) and batch.source.shape == (2, 0)
    assert batch.frame_lengths.tolist() == batch.source_lengths.tolist() == [0, 0]


@given(rows, st.integers(0, 2**32 - 1))
def test_every_row_is_in_its_batch_whole_and_the_rest_is_padding(
    rows: list[tuple[int, list[int]]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(t, 3)).astype(np.float32) + 1 for t, _ in rows]
    sentences = [sentence for _, sentence in rows]
    batch = make_batch(
        [Row(f, (), s) for f, s in zip(features, sentences, strict=True)], sentences=True
    )

    assert len(batch) == len(rows)
    assert batch.features.shape == (len(rows), max(t for t, _ in rows), 3)
    assert batch.targets.shape == (len(rows), max(map(len, sentences)) + 1)
    for n, (frames, sentence) in enumerate(zip(features, sentences, strict=True)):
        t, length = int(batch.frame_lengths[n]), int(batch.target_lengths[n])
        assert np.array_equal(batch.features[n, :t], frames)
        assert not batch.features[n, t:].any()
        assert batch.targets[n, :length].tolist() == [*sentence, EOS_ID]
        assert batch.inputs[n, :length].tolist() == [BOS_ID, *sentence]
        assert (batch.targets[n, length:] == PAD_ID).all()
        assert (batch.inputs[n, length:] == PAD_ID).all()


def test_a_batch_holds_what_a_network_takes() -> None:
    batch = make_batch([Row(np.zeros((2, 3), np.float32))], sentences=True).to(torch.device("cpu"))
    assert batch.features.dtype == torch.float32
    whole = (batch.frame_lengths, batch.inputs, batch.targets, batch.target_lengths)
    assert {tensor.dtype for tensor in whole} == {torch.int64}
    assert batch.inputs.tolist() == [[BOS_ID]]


def test_labels_have_neither_a_beginning_nor_an_end() -> None:
    rows = [Row(None, [5, 6], [9]), Row(None, [7], [8])]
    batch = make_batch(rows, sentences=False)
    assert batch.targets.tolist() == [[9], [8]]
    assert batch.inputs.shape == (2, 0)
    assert batch.source.tolist() == [[5, 6], [7, PAD_ID]]
    assert batch.source_lengths.tolist() == [2, 1]
    assert batch.features.shape == (2, 0, 0)
    assert batch.weights.tolist() == [1, 1]


def test_a_grid_is_padded_by_whole_frames() -> None:
    grids = [np.ones((2, 4, 3), np.float32), np.ones((1, 4, 3), np.float32)]
    batch = make_batch([Row(grid, (), [5]) for grid in grids], sentences=True)
    assert batch.features.shape == (2, 2, 4, 3)
    assert batch.features.sum((2, 3)).tolist() == [[12, 12], [12, 0]]
