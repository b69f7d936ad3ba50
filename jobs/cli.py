"""The command `intertitle`: one file a command; this one puts them together and ends them."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from jobs import (
    cluster_up,
    collecting,
    compare,
    demo,
    evaluate,
    importing,
    inspecting,
    precompute,
    predict,
    registry,
    retrain,
    schedule,
    submit,
    submitted,
    sync,
    table,
    tracking,
    train,
)
from jobs.console import ERRORS, use_utf8
from pipeline.errors import (
    SIGINT_EXIT_CODE,
    SIGTERM_EXIT_CODE,
    JobError,
    Stopped,
    UserError,
    one_line,
)
from pipeline.faults import UnavailableError, is_remote_failure


class _Program(TyperGroup):
    """Ends a command that is told to stop: with 75 after SIGTERM, with 130 after Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        told: list[int] = []

        def stop(number: int, frame: FrameType | None) -> NoReturn:
            # Ray hands a KeyboardInterrupt on, of whichever class.
            told.append(number)
            raise Stopped(SIGTERM_EXIT_CODE)

        handler = signal.signal(signal.SIGTERM, stop)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            code = SIGTERM_EXIT_CODE if told else SIGINT_EXIT_CODE
            if isinstance(stopped, Stopped):
                code = stopped.exit_code
            _end("; ".join(("stopped", *getattr(stopped, "__notes__", ()))), code)
        finally:
            signal.signal(signal.SIGTERM, handler)


app = typer.Typer(
    cls=_Program,
    name="intertitle",
    help="Video, photographs and sentences in, text out, with recurrent networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("import")(importing.import_corpus)
app.command("precompute")(precompute.precompute_features)
app.command("train")(train.train_recipe)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare_runs)
app.command("table")(table.make_table)
app.command("predict")(predict.predict)
app.command("submit", context_settings=submit.CONTEXT)(submit.submit)
app.add_typer(submitted.app, name="jobs")
app.add_typer(cluster_up.app, name="cluster")
app.command("sync")(sync.sync)
app.command("retrain")(retrain.retrain)
app.command("schedule")(schedule.schedule)
app.command("promote")(registry.promote)
app.command("rollback")(registry.rollback)
app.command("tracking")(tracking.serve_tracking)
app.command("inspect")(inspecting.inspect_store)
app.command("gc")(collecting.collect_garbage)


def main() -> None:
    """Run a command: a user's mistake exits with 2, a failed job with 1; both say why in a line."""
    use_utf8()
    # Nothing is sent anywhere, and libraries speak only when something is wrong.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app()
    except UserError as error:
        _end(str(error), 2)
    except JobError as error:
        _end(str(error), 1)
    except UnavailableError as error:
        _end(f"object store: {error.strerror}", 1)
    except OSError as error:
        # A path that can't be read or written; the program's own files are not among them.
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror or error}", 2)
    except Exception as error:
        if not is_remote_failure(error):
            raise
        _end(f"object store: {error}", 1)


def _end(message: str, code: int) -> NoReturn:
    ERRORS.print(f"intertitle: {one_line(message)}", markup=False, soft_wrap=True)
    sys.exit(code)
