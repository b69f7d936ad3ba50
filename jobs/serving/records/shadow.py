"""Record of the answers of a model and of its shadow, as tables of an MLflow run."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Sequence

from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.models.replica import Answers
from intertitle.pipeline.errors import UserError, one_line
from intertitle.training.tracking.run import TrackedRun

_log = logging.getLogger(__name__)
EXPERIMENT = "serving"
_FLUSH_S = 5.0
_TABLE_ROWS = 1000
# Maximum number of rows that wait for the store.
_MAX_ROWS = 10_000


class ShadowRecorder:
    """Collects pairs of answers and logs them in a thread, a table for each 1,000 of them.

    The run has the metric `agreement`, the share of equal answers in percent.

    Args:
        tracking_uri: tracking URI of the store.
        name: name of the model in URLs, which is part of the name of the run.
    """

    def __init__(self, tracking_uri: str, name: str) -> None:
        self._uri, self._name = tracking_uri, name
        self._rows: list[dict[str, object]] = []
        self._num_rows = self._num_logged = self._num_equal = 0
        self._run: TrackedRun | None = None
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._flush_often, name="shadow", daemon=True)
        self._thread.start()

    def compare(self, queries: Sequence[Query], answers: Answers, shadowed: Answers) -> None:
        """Add the answers to the inputs of a request."""
        for query, main, shadow in zip(queries, answers.results, shadowed.results, strict=True):
            content = (query.file or b"") + (query.text or "").encode("utf-8", "replace")
            row: dict[str, object] = {
                "time": round(time.time(), 3),
                "input": query.text or query.name,
                "sha256": hashlib.sha256(content).hexdigest(),
                "run": answers.model.run,
                "text": main.text,
                "score": main.score,
                "shadow_run": shadowed.model.run,
                "shadow_text": shadow.text,
                "shadow_score": shadow.score,
            }
            with self._lock:
                if len(self._rows) == _MAX_ROWS:
                    # The store does not answer: the oldest ones are given up.
                    del self._rows[:_TABLE_ROWS]
                self._rows.append(row)
                self._num_rows += 1
                self._num_equal += main.text == shadow.text

    def close(self) -> None:
        """Log what has been collected and finish the run."""
        self._stopped.set()
        self._thread.join()
        if self._run is not None:
            self._run.finish()

    def _flush_often(self) -> None:
        while not self._stopped.wait(_FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        """Log the current table; one that is full is followed by another."""
        while True:
            with self._lock:
                rows, first = self._rows[:_TABLE_ROWS], self._first_row()
                shares = {"agreement": 100 * self._num_equal / max(1, self._num_rows)}
                total, is_changed = self._num_rows, self._num_rows > self._num_logged
            if not is_changed:
                return
            try:
                if self._run is None:
                    self._run = TrackedRun.start(self._uri, EXPERIMENT, f"shadow-{self._name}")
                self._run.table(f"shadow/{first:08}", rows)
                self._run.metrics(shares, total)
            except UserError as error:
                _log.warning("%s: shadow: %s", self._name, one_line(str(error)))
                return
            with self._lock:
                self._num_logged = first + len(rows) - 1
                # They may have been given up while they were logged.
                if len(rows) == _TABLE_ROWS and first == self._first_row():
                    del self._rows[:_TABLE_ROWS]

    def _first_row(self) -> int:
        """Return the number of the first row that is kept, from 1."""
        return self._num_rows - len(self._rows) + 1
