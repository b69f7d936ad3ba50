"""The errors that a person, rather than a programmer, has to read."""

# What sysexits.h calls EX_TEMPFAIL: schedulers that know it start the job again.
SIGTERM_EXIT_CODE = 75
SIGINT_EXIT_CODE = 130


class UserError(Exception):
    """A user's mistake or an unusable input.

    The message is one line that names the file or field, the value, and what is allowed. The
    command line prints it without a traceback and exits with 2.
    """


class FileError(UserError):
    """A file that can't be read; of many files the others may be.

    Attributes:
        error: the class of the failure, as that of an item in quarantine.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


def one_line(text: str) -> str:
    """A text in which nothing but its letters is left to a terminal: a line end becomes \\n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_text(value: object) -> bool:
    """Whether it is one that UTF-8 can hold: half of a surrogate pair, which JSON may have, is
    none, nor is what stands for bytes that are not UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


class JobError(Exception):
    """A job that began and could not be finished, through no mistake of the user's.

    The command line prints its one line and exits with 1.
    """


class Stopped(KeyboardInterrupt):
    """A command that was told to stop before its end; like Ctrl-C, no `except Exception` stops it.

    Attributes:
        exit_code: 75 after SIGTERM (EX_TEMPFAIL: what was done is kept, call it again), 130 after
            Ctrl-C.
        resumable: whether there is anything to go on from.
    """

    def __init__(self, exit_code: int, resumable: bool = True) -> None:
        super().__init__("SIGTERM" if exit_code == SIGTERM_EXIT_CODE else "Ctrl-C")
        self.exit_code, self.resumable = exit_code, resumable
