"""Datasets of running text, which is split into parallel streams, and streams into windows.

Each line is followed by <eos>, and <eos> by <bos>, which also precedes the first line. A model of
running text can therefore generate a single sentence like any other generator, and <eos> is
predicted and counted like any other token, as the end of a line.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from intertitle.training.data.batch import Batch, make_stream_batch
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID


class LanguageModelDataset:
    """A text for a model that carries its state from window to window.

    A row is one window; a stream consists of `num_windows` consecutive windows.

    Args:
        lines: tokens of each line, without <bos> and <eos>; a line may be empty.
        num_streams: maximum number of parallel streams.
        bptt_len: number of tokens of a window.

    Attributes:
        num_lanes: number of parallel streams; fewer than `num_streams` for a short text.
        num_windows: number of windows of a stream.
        lengths: number of tokens of each row, [rows]; may be 0 for the last rows.
    """

    def __init__(self, lines: Sequence[Sequence[int]], num_streams: int, bptt_len: int) -> None:
        targets = np.fromiter((token for line in lines for token in (*line, EOS_ID)), np.int64, -1)
        inputs = np.concatenate([[BOS_ID], targets[:-1]])
        inputs[inputs == EOS_ID] = BOS_ID
        rows = -(-len(targets) // bptt_len)
        self.num_windows = -(-rows // num_streams)
        self.num_lanes = -(-rows // self.num_windows)
        # The last stream may be shorter: it is padded, and padding does not count.
        padding = self.num_lanes * self.num_windows * bptt_len - len(targets)
        self._inputs, self._targets = (
            np.pad(ids, (0, padding), constant_values=PAD_ID).reshape(-1, bptt_len)
            for ids in (inputs, targets)
        )
        self.lengths: NDArray[np.int64] = (self._targets != PAD_ID).sum(1)

    def __len__(self) -> int:
        return len(self._targets)

    def num_targets(self, rows: NDArray[np.int64]) -> int:
        """Return the number of tokens of the rows."""
        return int(self.lengths[rows].sum())

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Return a batch of rows."""
        return make_stream_batch(self._inputs[rows], self._targets[rows])

    def windows(self, first: int = 0) -> list[NDArray[np.int64]]:
        """Return the rows of each window in order, one row per stream.

        Args:
            first: row that the first stream begins at; the end of the text is followed by its
                beginning, as <eos> is followed by <bos> there too.
        """
        starts = first + np.arange(self.num_lanes) * self.num_windows
        return [(starts + window) % len(self) for window in range(self.num_windows)]
