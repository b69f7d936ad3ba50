"""What a person or a script sees of a command: progress, one result, one line for an error."""

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
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# Progress and errors go to stderr: stdout holds the result alone.
# Without emoji: ":dog:" in a caption is no picture.
ERRORS = Console(stderr=True, highlight=False, emoji=False)
OUTPUT = Console(highlight=False, emoji=False)


# Where there is no terminal, a line is printed this often at least.
SILENCE_S = 60.0


def use_utf8() -> None:
    """Makes this process and its children read and write UTF-8, whatever the locale says.

    In a locale of another encoding the program starts again in Python's UTF-8 mode, because names
    of files and children follow the locale too. A character that cannot be written, as one of a
    file's name that is not UTF-8, is written as an escape.
    """
    is_utf8 = codecs.lookup(locale.getencoding()).name == "utf-8"
    if not (is_utf8 or sys.flags.utf8_mode or "PYTHONUTF8" in os.environ):
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


class Bar:
    """A progress bar; on what is not a terminal, a line for each tenth, and one a minute."""

    def __init__(self, progress: Progress | None, task: TaskID | None, title: str) -> None:
        self._progress, self._task, self._title = progress, task, title
        self._told = -1
        self._told_at = time.monotonic()
        self._began: tuple[float, float] | None = None

    def update(self, done: float, total: float, note: str = "") -> None:
        """Show how far it is."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total, note=note)
            return
        now = time.monotonic()
        began_at, before = self._began = self._began or (now, done)
        tenth = int(10 * done / total) if total else 10
        if tenth > self._told or now > self._told_at + SILENCE_S:
            self._told, self._told_at = tenth, now
            count = f"{done:g}/{total:g}" if total > 1 else f"{100 * done:.0f} %"
            left = ""
            if before < done < total:
                seconds = (total - done) * (now - began_at) / (done - before)
                left = f"{timedelta(seconds=round(seconds))} left" if seconds >= 1 else ""
            told = ", ".join(part for part in (note, left) if part)
            ERRORS.print(f"{self._title}: {count} {told}".rstrip(), markup=False)


@contextmanager
def bar(title: str, *, counts: bool = True) -> Iterator[Bar]:
    """A progress bar for the length of a block.

    Args:
        title: of it.
        counts: whether it counts things, or a share of 1.
    """
    if not ERRORS.is_terminal or os.environ.get("CI"):
        yield Bar(None, None, title)
        return
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
    """Print a table under a line that says what it shows; numbers to the right."""
    grid = Table(show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], int | float) for row in rows)
        grid.add_column(escape(column), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(f"{v:.2f}" if isinstance(v, float) else escape(str(v)) for v in row))
    say(f"\n{title}\n")
    OUTPUT.print(grid)


def scores(title: str, values: Mapping[str, float]) -> None:
    """Print scores beside their names: a line each, so that they fit the narrowest terminal."""
    table(title, ("metric", "score"), list(values.items()))


def caveats(not_measured: Mapping[str, str], warnings: Sequence[str]) -> None:
    """Print which scores are absent and why, and what to know of the others."""
    for name, why in not_measured.items():
        say(f"not measured: {name}: {why}")
    for warning in warnings:
        warn(warning)


def say(text: str) -> None:
    """Print a line as it is."""
    OUTPUT.print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    ERRORS.print(f"WARNING: {text}", style="bold red", markup=False, soft_wrap=True)


def result(values: dict[str, Any]) -> None:
    """Print the one JSON object that `--json` promises, as the last line."""
    print(json.dumps(values, ensure_ascii=False), flush=True)
