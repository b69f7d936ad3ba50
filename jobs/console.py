"""Console output of commands: progress, results, and one line for an error."""

from __future__ import annotations

import codecs
import io
import json
import locale
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
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
    """Progress bar; without a terminal, it prints a line per tenth and at least one per minute."""

    def __init__(self, progress: Progress | None, task: TaskID | None, title: str) -> None:
        self._progress, self._task, self._title = progress, task, title
        self._told = -1
        self._told_at = time.monotonic()
        self._began: tuple[float, float] | None = None

    def update(self, done: float, total: float, note: str = "") -> None:
        """Show the progress.

        Args:
            done: finished amount.
            total: total amount.
            note: text shown after the bar.
        """
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total, note=note)
            return
        now = time.monotonic()
        start_time, start_done = self._began = self._began or (now, done)
        tenth = int(10 * done / total) if total else 10
        if tenth > self._told or now > self._told_at + SILENCE_S:
            self._told, self._told_at = tenth, now
            count = f"{done:g}/{total:g}" if total > 1 else f"{100 * done:.0f} %"
            left = ""
            if start_done < done < total:
                seconds = (total - done) * (now - start_time) / (done - start_done)
                left = f"{timedelta(seconds=round(seconds))} left" if seconds >= 1 else ""
            details = ", ".join(part for part in (note, left) if part)
            ERRORS.print(f"{self._title}: {count} {details}".rstrip(), markup=False)


@contextmanager
def bar(title: str, *, counts: bool = True) -> Iterator[Bar]:
    """Show a progress bar while a block runs.

    Args:
        title: text shown before the bar.
        counts: whether progress is a number of items instead of a fraction of 1.
    """
    if not ERRORS.is_terminal or os.environ.get("CI"):
        yield Bar(None, None, title)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        *([MofNCompleteColumn()] if counts else [TextColumn("{task.percentage:>3.0f} %")]),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    ]
    with Progress(*columns, console=ERRORS) as progress:
        yield Bar(progress, progress.add_task(title, total=None, note=""), title)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table below its title; columns of numbers are aligned right."""
    grid = Table(show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], int | float) for row in rows)
        grid.add_column(escape(column), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(f"{v:.2f}" if isinstance(v, float) else escape(str(v)) for v in row))
    echo(f"\n{title}\n")
    OUTPUT.print(grid)


def scores(title: str, values: Mapping[str, float]) -> None:
    """Print one score per line after its name, which fits even a narrow terminal."""
    table(title, ("metric", "score"), list(values.items()))


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
