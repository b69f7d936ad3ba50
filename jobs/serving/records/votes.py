"""Votes between two models whose answers are shown without their names."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from intertitle.jobs.serving.records.shadow import EXPERIMENT
from intertitle.jobs.serving.schemas import AnsweredBy
from intertitle.pipeline.errors import UserError, one_line
from intertitle.training.tracking.run import TrackedRun, reopen
from intertitle.training.tracking.store.client import RunRef, open_client, search_named
from intertitle.training.tracking.store.mlflow_errors import mlflow_errors, short_timeouts
from intertitle.training.tracking.store.sqlite import absolute, is_missing

_log = logging.getLogger(__name__)
# Quantile of the normal distribution of a 95 % interval.
_Z = 1.959964

Choice = Literal["first", "second", "tie"]
_POINTS: dict[Choice, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}
_OPPOSITE: dict[Choice, Choice] = {"first": "second", "tie": "tie", "second": "first"}


@dataclass(frozen=True, slots=True)
class Preference:
    """Share of the votes for a model, ties counted as half, with its 95 % interval.

    Attributes:
        name: name of the model.
        votes: number of votes.
        share: share, 0..1.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    name: str
    votes: int
    share: float
    low: float
    high: float

    def __str__(self) -> str:
        votes = "1 vote" if self.votes == 1 else f"{self.votes} votes"
        return (
            f"{votes}: {100 * self.share:.0f} % for {self.name} "
            f"(95 % interval {100 * self.low:.0f} to {100 * self.high:.0f} %)"
        )


def preference(name: str, choices: Sequence[Choice]) -> Preference:
    """Compute the preference for the first model, with Wilson's score interval."""
    num = len(choices)
    share = sum(_POINTS[choice] for choice in choices) / num
    centre = (share + _Z**2 / (2 * num)) / (1 + _Z**2 / num)
    half = _Z / (1 + _Z**2 / num) * math.sqrt(share * (1 - share) / num + _Z**2 / (4 * num**2))
    return Preference(name, num, share, max(0.0, centre - half), min(1.0, centre + half))


class _Ballot:
    """Votes between two runs, the table `votes` of a run of their own."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.run: TrackedRun | None = None


class VoteBook:
    """Votes, kept as the table `votes` of an MLflow run for each pair of runs.

    They go on where an earlier server has stopped.

    Args:
        tracking_uri: tracking URI of the store.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self._lock = threading.Lock()
        self._ballots: dict[tuple[str, str], _Ballot] = {}

    def add(
        self,
        models: tuple[AnsweredBy, AnsweredBy],
        texts: tuple[str, str],
        source: str,
        choice: Choice,
    ) -> Preference:
        """Count a vote, log it, and return the preference so far; blocks.

        While the store does not answer, the votes that it has are not counted.

        Args:
            models: models that answered, in any order.
            texts: their answers.
            source: text or name of the input.
            choice: model whose answer is better.
        """
        if models[0].run_id > models[1].run_id:
            models, texts, choice = models[::-1], texts[::-1], _OPPOSITE[choice]
        row: dict[str, object] = {
            "time": round(time.time(), 3),
            "input": source,
            "first": texts[0],
            "second": texts[1],
            "vote": choice,
        }
        with self._lock:
            ballot = self._ballots.setdefault((models[0].run_id, models[1].run_id), _Ballot())
            ballot.rows.append(row)
            try:
                if ballot.run is None:
                    self._open(ballot, models)
                self._log(ballot, models)
            except UserError as error:
                # The next vote logs all of them.
                _log.warning("votes: %s", one_line(str(error)))
            return _preference(ballot, models)

    def close(self) -> None:
        """Finish the runs."""
        for ballot in self._ballots.values():
            if ballot.run is not None:
                ballot.run.finish()

    def _open(self, ballot: _Ballot, models: tuple[AnsweredBy, AnsweredBy]) -> None:
        """Open the newest run of two models, whose votes come first, or start one."""
        uri, name = absolute(self._uri), f"votes-{models[0].run}-{models[1].run}"
        tags = {
            f"{place}_{key}": str(value)
            for place, model in zip(("first", "second"), models, strict=True)
            for key, value in (("model", model.name), ("run_id", model.run_id))
        }
        condition = "".join(f" AND tags.{k} = '{v}'" for k, v in tags.items() if k.endswith("_id"))
        stored = None
        if not is_missing(uri):
            with mlflow_errors(uri), short_timeouts():
                stored = search_named(open_client(uri), name, condition)
        if stored is None:
            ballot.run = TrackedRun.start(uri, EXPERIMENT, name, tags=tags)
            return
        run = reopen(RunRef(stored.info.run_id, name, uri), running=True)
        ballot.rows[:0] = run.logged_rows("votes")
        ballot.run = run

    def _log(self, ballot: _Ballot, models: tuple[AnsweredBy, AnsweredBy]) -> None:
        assert ballot.run is not None
        result = _preference(ballot, models)
        ballot.run.table("votes", ballot.rows)
        shares = {"": result.share, "_low": result.low, "_high": result.high}
        values = {f"preference_first{key}": 100 * share for key, share in shares.items()}
        ballot.run.metrics(values, result.votes)


def _preference(ballot: _Ballot, models: tuple[AnsweredBy, AnsweredBy]) -> Preference:
    return preference(models[0].name, [cast(Choice, row["vote"]) for row in ballot.rows])
