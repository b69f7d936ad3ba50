"""Write checkpoints on a thread, while the training continues."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from intertitle.training.trainer.checkpoint import Checkpoint, Checkpoints, NoSpaceError
from intertitle.training.trainer.events import NotKept


class CheckpointWriter:
    """Writes one checkpoint after the other, each from a copy in the memory of the host.

    Leaving the context waits for the last one, so that it is complete before the process ends.

    Args:
        checkpoints: checkpoints of the run.
        on_full: callback for a checkpoint that was not written because there was no space.
    """

    def __init__(self, checkpoints: Checkpoints, on_full: Callable[[NotKept], None]) -> None:
        self._checkpoints, self._on_full = checkpoints, on_full
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint, and start to write the copy once the previous one is written.

        Raises:
            JobError: the previous checkpoint held NaN or infinity.
        """
        self._wait()
        self._pending = self._pool.submit(self._write, checkpoint.on_host())

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            self._checkpoints.save(checkpoint)
        except NoSpaceError as error:
            self._on_full(NotKept(checkpoint.progress.step, str(error)))

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        # An error of the training is more than one of the thread.
        with contextlib.suppress(Exception) if error_type else contextlib.nullcontext():
            self._wait()
        self._pool.shutdown()
