"""Errors that callers get: a field, its value and what is allowed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from intertitle.pipeline.errors import UserError

# A browser asks for the token as a password; programs send `Bearer TOKEN`.
_CHALLENGE = 'Basic realm="Intertitle: the token is the password"'
# Characters of a caller's value that an error repeats.
_SHOWN = 200
_LINE = re.compile(
    r"(?P<field>[A-Za-z_][\w.-]*): (?P<value>.*?)(?:(?:, |: )allowed: (?P<allowed>.*))?", re.DOTALL
)


# Not frozen: Python sets the traceback of an exception. Equal only to itself, as exceptions are.
@dataclass(eq=False)
class ApiError(Exception):
    """Error that becomes a response.

    Attributes:
        status: HTTP status.
        field: field or header that is at fault.
        value: value of the field.
        allowed: allowed values, or what the caller can do.
        retry_after_s: time after which the caller may try again; None if that does not help.
    """

    status: int
    field: str
    value: str
    allowed: str
    retry_after_s: int | None = None

    def body(self) -> dict[str, str]:
        """Return the JSON object of the response."""
        return {"field": self.field, "value": self.value[:_SHOWN], "allowed": self.allowed}

    def headers(self) -> dict[str, str]:
        """Return additional headers of the response."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return headers | ({"WWW-Authenticate": _CHALLENGE} if self.status == 401 else {})


def full(allowed: str) -> ApiError:
    """Return the error for a server without capacity."""
    return ApiError(503, "server", "full", allowed, retry_after_s=1)


def defect(error: Exception) -> ApiError:
    """Return the error for a failure that the server has not expected."""
    return ApiError(500, "server", type(error).__name__, "a report of this defect")


def from_user_error(error: UserError, recipe: str) -> ApiError:
    """Convert the one line of an error of the caller.

    Args:
        error: error whose message is `FIELD: VALUE, allowed: ALLOWED`.
        recipe: name of the model's recipe, which the message may begin with.
    """
    line = str(error).removeprefix(f"{recipe}: ").removeprefix("--")
    match = _LINE.fullmatch(line)
    if match is None:
        return ApiError(422, "body", "", line)
    field = match["field"].removeprefix("search.").replace("-", "_")
    value = match["value"].removesuffix(": Value error").strip("'")
    return ApiError(422, field, value, match["allowed"] or value)


def from_validation(error: dict[str, Any]) -> ApiError:
    """Convert an error of pydantic."""
    path = [str(part) for part in error["loc"] if part != "body"]
    value = "" if error["type"] == "missing" else str(error.get("input"))
    return ApiError(422, ".".join(path) or "body", value, str(error["msg"]))
