"""Command-line program `intertitle`: the commands of `jobs.commands`, and their exit codes."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import intertitle
from intertitle.jobs.commands import COMMANDS
from intertitle.jobs.console import ERRORS, OUTPUT, use_utf8
from intertitle.pipeline.errors import (
    SIGINT_EXIT_CODE,
    SIGTERM_EXIT_CODE,
    JobError,
    Stopped,
    UserError,
    one_line,
)
from intertitle.pipeline.storage.faults import UnavailableError, is_outage, is_remote_failure


class _Program(TyperGroup):
    """Command group whose stopped commands exit with 75 after SIGTERM and with 130 after Ctrl-C."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name, and the rest of the arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, COMMANDS[name].load() if name else command, rest

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
        from importlib.metadata import version

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


for _command in COMMANDS.values():
    # Only the help of the program uses these functions.
    app.command(_command.name, rich_help_panel=_command.panel, help=_command.help)(lambda: None)


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
        # A path of the user can't be read or written, or the machine or a disk fails.
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror or error}", 1 if is_outage(error) else 2)
    except Exception as error:
        if not is_remote_failure(error):
            raise
        _end(f"object store: {error}", 1)


def _end(message: str, code: int) -> NoReturn:
    ERRORS.print(f"intertitle: {one_line(message)}", markup=False, soft_wrap=True)
    sys.exit(code)
