"""Running text, cut into lanes that are read side by side, and lanes into windows.

Lines follow each other: the words of each, then <eos>; after it comes <bos>, as before the first.
So a model of running text writes a single sentence as any other generator does, and <eos> is told,
and counted, like the end of a line that it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.batch import Batch, make_stream_batch
from training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID


class StreamDataset:
    """One text for a model that carries its state from window to window.

    A row is one window; a lane is as many that follow each other.

    Args:
        lines: tokens of each, without <bos> and <eos>; may be empty.
        num_lanes: read side by side, if the text has as many windows.
        window: tokens of a window.

    Attributes:
        num_lanes: as given, or fewer for a short text.
        num_windows: of a lane.
        lengths: tokens of each row, [rows]; the last ones may have none.
    """

    def __init__(self, lines: Sequence[Sequence[int]], num_lanes: int, window: int) -> None:
        targets = np.fromiter((token for line in lines for token in (*line, EOS_ID)), np.int64, -1)
        inputs = np.concatenate([[BOS_ID], targets[:-1]])
        inputs[inputs == EOS_ID] = BOS_ID
        rows = -(-len(targets) // window)
        self.num_windows = -(-rows // num_lanes)
        self.num_lanes = -(-rows // self.num_windows)
        # The last lane may end early: what it lacks is padding, which counts for nothing.
        padding = self.num_lanes * self.num_windows * window - len(targets)
        self._inputs, self._targets = (
            np.pad(ids, (0, padding), constant_values=PAD_ID).reshape(-1, window)
            for ids in (inputs, targets)
        )
        self.lengths: NDArray[np.int64] = (self._targets != PAD_ID).sum(1)

    def __len__(self) -> int:
        return len(self._targets)

    def num_targets(self, rows: NDArray[np.int64]) -> int:
        """Tokens of some rows."""
        return int(self.lengths[rows].sum())

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Some rows."""
        return make_stream_batch(self._inputs[rows], self._targets[rows])

    def windows(self, first: int = 0) -> list[NDArray[np.int64]]:
        """The rows of each window in order, a row a lane.

        Args:
            first: the row that the first lane begins at; after the text's end comes its beginning,
                for <eos> is followed by <bos> there too.
        """
        lanes = first + np.arange(self.num_lanes) * self.num_windows
        return [(lanes + window) % len(self) for window in range(self.num_windows)]
