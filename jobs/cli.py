"""Command-line program `intertitle`: the commands of `jobs.commands`, and their exit codes."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import intertitle
from intertitle.jobs.commands import (
    cluster,
    compare,
    demo,
    evaluate,
    gc_,
    import_,
    inspect_,
    jobs_,
    precompute,
    predict,
    registry,
    reproduce,
    retrain,
    schedule,
    submit,
    sync,
    tracking,
    train,
)
from intertitle.jobs.console import ERRORS, OUTPUT, use_utf8
from intertitle.pipeline.errors import (
    SIGINT_EXIT_CODE,
    SIGTERM_EXIT_CODE,
    JobError,
    Stopped,
    UserError,
    one_line,
)
from intertitle.pipeline.storage.faults import UnavailableError, is_remote_failure


class _Program(TyperGroup):
    """Command group whose stopped commands exit with 75 after SIGTERM and with 130 after Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        signals: list[int] = []

        def stop(number: int, frame: FrameType | None) -> NoReturn:
            # Ray may replace the exception by a plain KeyboardInterrupt, so the signal is recorded.
            signals.append(number)
            raise Stopped(SIGTERM_EXIT_CODE)

        handler = signal.signal(signal.SIGTERM, stop)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            code = SIGTERM_EXIT_CODE if signals else SIGINT_EXIT_CODE
            if isinstance(stopped, Stopped):
                code = stopped.exit_code
            _end("; ".join(("stopped", *getattr(stopped, "__notes__", ()))), code)
        finally:
            signal.signal(signal.SIGTERM, handler)


app = typer.Typer(
    cls=_Program,
    name="intertitle",
    help="Generate text from videos, photographs and sentences with recurrent networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(show_version: bool) -> None:
    if show_version:
        OUTPUT.print(f"intertitle {version('intertitle')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Generate text from videos, photographs and sentences with recurrent networks."""


_DATA, _TRAIN, _USE, _COMPARE, _OPERATE = "Data", "Train", "Use", "Compare", "Operate"
# Name, function, help panel and example of each command, in the order of the help.
_COMMANDS: tuple[tuple[str, Callable[..., object], str, str], ...] = (
    ("import", import_.import_corpus, _DATA, "import folder photos --out corpus"),
    (
        *("precompute", precompute.precompute_features, _DATA),
        "precompute corpus --out features --frames 8",
    ),
    (
        *("inspect", inspect_.inspect_store, _DATA),
        "inspect features --corpus corpus --contact-sheet sheet.png",
    ),
    ("gc", gc_.collect_garbage, _DATA, "gc features --dry-run"),
    (
        *("train", train.train_recipe, _TRAIN),
        "train show_and_tell --corpus corpus --features features --name first",
    ),
    (
        *("reproduce", reproduce.make_table, _TRAIN),
        "reproduce captions --data datasets --out page.html",
    ),
    ("demo", demo.demo, _TRAIN, "demo --workdir demo"),
    ("predict", predict.predict, _USE, "predict first photo.jpg --explain attention.png"),
    ("evaluate", evaluate.evaluate, _COMPARE, "evaluate first --split val --beam 5"),
    ("compare", compare.compare_runs, _COMPARE, "compare first second --out page.html"),
    (
        *("retrain", retrain.retrain, _OPERATE),
        "retrain config.toml --slot 2026-12-01T03:00:00+00:00 --if-new",
    ),
    ("schedule", schedule.schedule, _OPERATE, 'schedule config.toml --cron "0 3 * * *"'),
    ("promote", registry.promote, _OPERATE, "promote first --model captions"),
    ("rollback", registry.rollback, _OPERATE, "rollback captions"),
    ("sync", sync.sync, _OPERATE, "sync checkpoints"),
    ("tracking", tracking.serve_tracking, _OPERATE, "tracking --artifacts s3://bucket"),
)
for _name, _function, _panel, _example in _COMMANDS:
    app.command(_name, rich_help_panel=_panel, epilog=f"Example: intertitle {_example}")(_function)
app.command(
    "submit",
    context_settings=submit.CONTEXT,
    rich_help_panel=_OPERATE,
    epilog="Example: intertitle submit -- intertitle train s2vt --corpus c --features f",
)(submit.submit)
app.add_typer(
    jobs_.app, name="jobs", rich_help_panel=_OPERATE, epilog="Example: intertitle jobs list"
)
app.add_typer(
    cluster.app, name="cluster", rich_help_panel=_OPERATE, epilog="Example: intertitle cluster up"
)


def main() -> None:
    """Run a command.

    Invalid input exits with 2 and a failed job with 1, both with a one-line error message.
    """
    use_utf8()
    intertitle.init()
    # Libraries log only warnings and errors.
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
        # A path of the user can't be read or written; the program's own files don't raise this.
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror or error}", 2)
    except Exception as error:
        if not is_remote_failure(error):
            raise
        _end(f"object store: {error}", 1)


def _end(message: str, code: int) -> NoReturn:
    ERRORS.print(f"intertitle: {one_line(message)}", markup=False, soft_wrap=True)
    sys.exit(code)
