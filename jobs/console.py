"""Console output of commands: progress, results, and one line for an error."""

from __future__ import annotations

import codecs
import io
import json
import locale
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from math import isclose, nan
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Progress and errors go to stderr, so that stdout contains only the result.
# Emoji codes are off, so that ":dog:" in a caption is printed as it is.
ERRORS = Console(stderr=True, highlight=False, emoji=False)
OUTPUT = Console(highlight=False, emoji=False)


# Maximum time between two progress lines where there is no terminal.
SILENCE_S = 60.0
# Time after which a step is named where there is no terminal: what is shorter needs no word.
SHORT_S = 1.5
# Time window over which rates and remaining times are averaged.
RATE_OVER_S = 20.0


def use_utf8() -> None:
    """Make this process and its children read and write UTF-8, regardless of the locale.

    If the locale has another encoding, the program restarts in Python's UTF-8 mode, because file
    names and child processes depend on the locale too. A character that cannot be written, such as
    one of a file name that is not UTF-8, is written as an escape sequence.
    """
    is_utf8 = codecs.lookup(locale.getencoding()).name == "utf-8"
    if not (is_utf8 or sys.flags.utf8_mode or "PYTHONUTF8" in os.environ):
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


class Bar:
    """Progress bar; without a terminal, it prints a line per tenth and at least one per minute.

    What takes longer than `SHORT_S` until its first `update` is named. The rate and the remaining
    time are computed from the progress of the last `RATE_OVER_S`.
    """

    def __init__(
        self, progress: Progress | None, task: TaskID | None, title: str, unit: str | None = None
    ) -> None:
        self._progress, self._task, self._title, self._unit = progress, task, title, unit
        self._told = -1
        self._told_at = time.monotonic()
        self._past: deque[tuple[float, float]] = deque()
        self._timer = _later(title) if progress is None else None

    def update(self, done: float, total: float, note: str = "") -> None:
        """Show the progress.

        Args:
            done: finished amount.
            total: total amount.
            note: text shown after the bar.
        """
        self.end_phase()
        now = time.monotonic()
        parts = (note, *self._speed(now, done, total))
        details = ", ".join(part for part in parts if part)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total, note=details)
            return
        tenth = int(10 * done / total) if total else 10
        if tenth > self._told or now > self._told_at + SILENCE_S:
            self._told, self._told_at = tenth, now
            count = f"{done:g}/{total:g}" if total > 1 else f"{100 * done:.0f} %"
            ERRORS.print(f"{self._title}: {count} {details}".rstrip(), markup=False)

    def phase(self, title: str) -> None:
        """Begin another phase, whose length is not known until its first `update`.

        Without a terminal it is named if it takes longer than `SHORT_S`.
        """
        self.end_phase()
        self._title, self._told = title, -1
        self._past.clear()
        if self._progress is not None and self._task is not None:
            # Rich can't take back the total of a task.
            self._progress.remove_task(self._task)
            self._task = self._progress.add_task(title, total=None, note="")
        else:
            self._timer = _later(title)

    def end_phase(self) -> None:
        """Name the current phase no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _speed(self, now: float, done: float, total: float) -> tuple[str, str]:
        """Return the rate and the remaining time as texts; "" where they are not known."""
        self._past.append((now, done))
        while self._past[0][0] < now - RATE_OVER_S and len(self._past) > 2:
            self._past.popleft()
        start_time, start_done = self._past[0]
        if not start_done < done < total or now <= start_time:
            return "", ""
        rate = (done - start_done) / (now - start_time)
        speed = f"{rate:.{0 if rate >= 10 else 1}f} {self._unit}/s" if self._unit else ""
        seconds = round((total - done) / rate)
        return speed, f"{timedelta(seconds=seconds)} left" if seconds >= 1 else ""


@contextmanager
def bar(title: str, *, unit: str | None = None, counts: bool = True) -> Iterator[Bar]:
    """Show a progress bar while a block runs.

    Args:
        title: text shown before the bar.
        unit: plural noun of what is counted, to show a rate; None shows none.
        counts: whether progress is a number of items instead of a fraction of 1.
    """
    if not _is_interactive():
        plain = Bar(None, None, title, unit)
        try:
            yield plain
        finally:
            plain.end_phase()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *([MofNCompleteColumn()] if counts else [TextColumn("{task.percentage:>3.0f} %")]),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    ]
    with Progress(*columns, console=ERRORS) as progress:
        yield Bar(progress, progress.add_task(title, total=None, note=""), title, unit)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what the program does while a block runs, if it takes longer than `SHORT_S`.

    A terminal shows a spinner with the title; elsewhere the title is printed once.
    """
    if _is_interactive():
        with ERRORS.status(escape(title)):
            yield
        return
    timer = _later(title)
    try:
        yield
    finally:
        timer.cancel()


def _later(title: str) -> threading.Timer:
    """Start a timer that prints the title of what takes longer than `SHORT_S`."""
    timer = threading.Timer(SHORT_S, note, (f"{title} ...",))
    timer.daemon = True
    timer.start()
    return timer


def _is_interactive() -> bool:
    return ERRORS.is_terminal and not os.environ.get("CI")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table below its title; columns of numbers are aligned right."""
    grid = Table(show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], int | float) for row in rows)
        grid.add_column(escape(column), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(score(v) if isinstance(v, float) else escape(str(v)) for v in row))
    echo(f"\n{title}\n")
    OUTPUT.print(grid)


def scores(title: str, values: Mapping[str, float]) -> None:
    """Print one score per line after its name, which fits even a narrow terminal.

    `sacrebleu` and `bleu_4`, which are the same score where their tokens are the same, then share a
    line.
    """
    rows = dict(values)
    if "bleu_4" in rows and isclose(rows["bleu_4"], rows.get("sacrebleu", nan), abs_tol=1e-6):
        del rows["sacrebleu"]
        rows = {("bleu_4 = sacrebleu" if n == "bleu_4" else n): v for n, v in rows.items()}
    table(title, ("metric", "score"), list(rows.items()))


def score(value: float) -> str:
    """Return a score as text, with two digits after the point."""
    return f"{value:.2f}"


def caveats(not_measured: Mapping[str, str], warnings: Sequence[str]) -> None:
    """Print which scores are missing and why, and warnings about the others."""
    for name, reason in not_measured.items():
        echo(f"not measured: {name}: {reason}")
    for warning in warnings:
        warn(warning)


def echo(text: str) -> None:
    """Print a line without interpreting markup."""
    OUTPUT.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a line to stderr without interpreting markup."""
    ERRORS.print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning to stderr."""
    ERRORS.print(f"WARNING: {text}", style="bold red", markup=False, soft_wrap=True)


def result(values: dict[str, Any]) -> None:
    """Print the JSON object of `--json`, as the last line of the output."""
    print(json.dumps(values, ensure_ascii=False), flush=True)
