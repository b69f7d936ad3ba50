"""Errors whose messages are meant for users."""

# EX_TEMPFAIL of sysexits.h; job schedulers that support it restart the job.
SIGTERM_EXIT_CODE = 75
SIGINT_EXIT_CODE = 130


class UserError(Exception):
    """Invalid input or options of the user.

    The message is one line that names the file or field, the value, and what is allowed. The
    command line prints it without a traceback and exits with 2.
    """


class FileError(UserError):
    """A file that cannot be read; other files of the same call may be readable.

    Attributes:
        error: class of the failure, as of a quarantined item.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


def one_line(text: str) -> str:
    """Escape all characters of a text that are not printable: a line end becomes \\n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_text(value: object) -> bool:
    """Return whether a value is a string that UTF-8 can encode.

    A string with a lone surrogate is not: JSON may contain one, and Python uses them in place of
    bytes that are not UTF-8.
    """
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


class JobError(Exception):
    """A job that started and could not be finished, for reasons other than invalid input.

    The command line prints the message, which is one line, and exits with 1.
    """


class Stopped(KeyboardInterrupt):
    """A command was stopped by SIGTERM or Ctrl-C.

    Like KeyboardInterrupt, it is not caught by `except Exception`.

    Attributes:
        exit_code: exit status: 75 after SIGTERM (EX_TEMPFAIL: finished work is kept, and the
            command can be run again), 130 after Ctrl-C.
        resumable: whether a later run can continue from saved work.
    """

    def __init__(self, exit_code: int, resumable: bool = True) -> None:
        super().__init__("SIGTERM" if exit_code == SIGTERM_EXIT_CODE else "Ctrl-C")
        self.exit_code, self.resumable = exit_code, resumable
