"""Batches that are assembled ahead of the step that needs them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from intertitle.training.data.batch import Batch
from intertitle.training.data.sampler import Rows

# Number of batches that are assembled before they are needed.
AHEAD = 3


class Loader:
    """Assembles the parts of batches; for a GPU, on a thread and in pinned memory.

    On a CPU a thread would only take cores from the step.

    Args:
        parts: function from the rows of a batch to its parts.
        device: device of the model.
    """

    def __init__(self, parts: Callable[[Rows], Iterable[Batch]], device: torch.device) -> None:
        self._parts, self._pinned = parts, device.type == "cuda"
        self._ahead = AHEAD if self._pinned else 0
        self._pool = ThreadPoolExecutor(1, "loader")
        self._coming: Iterator[Rows] = iter(())
        self._loading: deque[tuple[Rows, Future[list[Batch]]]] = deque()

    def begin(self, batches: Iterable[Rows]) -> None:
        """Assemble these batches ahead, in this order."""
        for _, future in self._loading:
            future.cancel()
        self._loading.clear()
        self._coming = iter(batches)
        self._fill()

    def take(self, rows: Rows) -> list[Batch]:
        """Return the parts of a batch, which is assembled now if it is not the next one."""
        if not self._loading or self._loading[0][0] is not rows:
            return self._load(rows)
        batches = self._loading.popleft()[1].result()
        self._fill()
        return batches

    def _fill(self) -> None:
        while len(self._loading) < self._ahead:
            rows = next(self._coming, None)
            if rows is None:
                return
            self._loading.append((rows, self._pool.submit(self._load, rows)))

    def _load(self, rows: Rows) -> list[Batch]:
        batches = self._parts(rows)
        return [batch.pin_memory() if self._pinned else batch for batch in batches]
