"""The errors that a person, rather than a programmer, has to read."""


class UserError(Exception):
    """A user's mistake or an unusable input.

    The message is one line that names the file or field, the value, and what is allowed. The
    command line prints it without a traceback and exits with 2.
    """


def one_line(text: str) -> str:
    """A text in which nothing but its letters is left to a terminal: a line end becomes \\n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class JobError(Exception):
    """A job that began and could not be finished, through no mistake of the user's.

    The command line prints its one line and exits with 1.
    """
