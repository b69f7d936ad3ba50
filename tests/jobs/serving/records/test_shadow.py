"""Rows of the shadow's tables."""

from __future__ import annotations

from typing import Any

import pytest

from intertitle.jobs.serving.models.replica import Answers
from intertitle.jobs.serving.records import shadow
from intertitle.jobs.serving.records.shadow import ShadowRecorder
from intertitle.jobs.serving.schemas import AnsweredBy, Result
from tests.jobs.serving.backends import text_queries

MODEL = AnsweredBy(name="words", spec="main", version=None, run_id="0", run="main")


class Tables:
    """A run that keeps its tables; rows come while it logs the first one."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.recorder: ShadowRecorder | None = None

    def start(self, *_: Any) -> Tables:
        return self

    def table(self, name: str, rows: list[dict[str, str]]) -> None:
        self.texts[name] = [row["text"] for row in rows]
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            compare(recorder, 5)

    def metrics(self, *_: Any) -> None:
        pass

    def finish(self) -> None:
        pass


def compare(recorder: ShadowRecorder, number: int) -> None:
    answers = Answers(MODEL, [Result(input="", text=str(number))])
    recorder.compare(text_queries(1), answers, answers)


def test_rows_given_up_while_they_are_logged_cost_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = Tables()
    monkeypatch.setattr(shadow, "TrackedRun", tables)
    monkeypatch.setattr(shadow, "_TABLE_ROWS", 2)
    monkeypatch.setattr(shadow, "_MAX_ROWS", 4)
    monkeypatch.setattr(ShadowRecorder, "_flush_often", lambda _: None)
    recorder = ShadowRecorder("", "words")
    for number in range(1, 5):
        compare(recorder, number)
    tables.recorder = recorder
    recorder._flush()
    recorder.close()
    expected = {"shadow/00000001": ["1", "2"], "shadow/00000003": ["3", "4"]}
    assert tables.texts == {**expected, "shadow/00000005": ["5"]}
