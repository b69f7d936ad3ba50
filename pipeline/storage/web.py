"""Download of single files by http or https.

A request that fails in passing is tried again, as long as the server asks for. A server that opts
out by `X-Robots-Tag` is obeyed. Redirects lead only to allowed hosts, and no credentials are sent.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.metadata import version
from typing import BinaryIO, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
    wait_random_exponential,
)
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from intertitle.pipeline.errors import UserError, one_line
from intertitle.pipeline.storage.faults import UnavailableError

# Environment variable with the User-Agent of requests.
USER_AGENT_VARIABLE = "INTERTITLE_USER_AGENT"
# Name that servers may address in `X-Robots-Tag`.
_ROBOT = "intertitle"
# Directives by which a server opts out, those of img2dataset.
OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex"})

_WEB = re.compile(r"https?://", re.IGNORECASE)
_MAX_REDIRECTS = 5
_TRIES = 4
# Maximum pause before a further try, in seconds.
MAX_PAUSE_S = 15.0
# Time limits for a connection and for the next bytes, in seconds.
_TIMEOUTS_S = (10.0, 30.0)
_CHUNK_BYTES = 1 << 20
_BUSY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_GONE_STATUS = frozenset({404, 410})
_BROKEN_CONNECTION = (
    *(requests.ConnectionError, requests.Timeout),
    *(requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError),
    # What fails while the body is read.
    HTTPError,
)
_LENGTH = re.compile(r"[0-9]{1,18}")

T = TypeVar("T")


class RefusedError(Exception):
    """A server does not give a file away, or opts out, or it may not be asked for it."""


class TooLargeError(Exception):
    """A file is larger than allowed."""


class _BusyError(Exception):
    """A request failed that may succeed later.

    Attributes:
        pause_s: pause that the server asks for, in seconds; 0 if none.
    """

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


@dataclass(frozen=True, slots=True)
class WebClient:
    """Rules of requests.

    Attributes:
        is_allowed: function that decides whether a URL, also of a redirect, may be opened.
        user_agent: value of the header `User-Agent`.
        seconds: time limit for a file, with its redirects and further tries.
        max_bytes: maximum size of a file.
    """

    is_allowed: Callable[[str], bool]
    user_agent: str
    seconds: float = 120.0
    max_bytes: int = 4 << 30

    def fetch(self, url: str, target: BinaryIO, start: int = 0, end: int | None = None) -> int:
        """Write a file, or its bytes from `start` to `end`, to an empty binary file.

        Returns:
            The time of its last change in nanoseconds, 0 if the server does not say.

        Raises:
            FileNotFoundError: the file is gone, or the URL is none.
            RefusedError: the server refuses or opts out, does not send parts of files, or a host is
                not allowed.
            TooLargeError: there are more than `max_bytes`.
            UnavailableError: the server did not answer properly within the time limit.
        """
        deadline = time.monotonic() + self.seconds
        headers = {} if end is None else {"Range": f"bytes={start}-{end - 1}"}

        def attempt() -> int:
            target.seek(0)
            target.truncate()
            with self._answer("GET", url, headers) as answer:
                _check_opt_out(answer, url)
                if headers and answer.status_code != 206:
                    raise RefusedError(f"{url}: the server does not send parts of files")
                length = _content_length(answer)
                if length > self.max_bytes:
                    raise TooLargeError(f"{url}: {length:,} bytes, allowed: {self.max_bytes:,}")
                # Other methods than `read1` return after a whole chunk, however slowly it comes.
                while chunk := answer.raw.read1(_CHUNK_BYTES, decode_content=True):
                    target.write(chunk)
                    if target.tell() > self.max_bytes:
                        raise TooLargeError(f"{url}: over {self.max_bytes:,} bytes")
                    if time.monotonic() > deadline:
                        raise UnavailableError(errno.ETIMEDOUT, self._too_slow(url))
                target.flush()
                return _changed_ns(answer)

        return self._retry(attempt, url)

    def stat(self, url: str) -> tuple[int, int] | None:
        """Return a file's size in bytes, -1 if unknown, and the time of its last change.

        Returns:
            The size, and the time in nanoseconds, 0 if unknown; None if the file can't be had.

        Raises:
            UnavailableError: the server did not answer properly within the time limit.
        """

        def attempt() -> tuple[int, int]:
            with self._answer("HEAD", url, {}) as answer:
                return _content_length(answer), _changed_ns(answer)

        try:
            return self._retry(attempt, url)
        except _NoHeadError:
            return -1, 0
        except (FileNotFoundError, RefusedError):
            return None

    def _retry(self, attempt: Callable[[], T], url: str) -> T:
        retrying = Retrying(
            retry=retry_if_exception_type(_BusyError),
            wait=_pause,
            stop=stop_any(stop_after_attempt(_TRIES), stop_before_delay(self.seconds)),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except _BusyError as error:
            raise UnavailableError(errno.EBUSY, f"{url}: {error}") from error

    @contextmanager
    def _answer(
        self, method: str, url: str, headers: dict[str, str]
    ) -> Iterator[requests.Response]:
        """Send a request, and follow its redirects to allowed hosts."""
        own = {"User-Agent": self.user_agent, "Accept-Encoding": "identity"}
        with requests.Session() as session:
            # Without it, requests would send the passwords of the user's ~/.netrc.
            session.auth = _no_credentials
            try:
                for _ in range(_MAX_REDIRECTS + 1):
                    if not self.is_allowed(url):
                        raise RefusedError(f"redirected to {one_line(url)}: not on an allowed host")
                    request = session.prepare_request(
                        requests.Request(method, url, headers={**own, **headers})
                    )
                    _check_host(request, url)
                    settings = session.merge_environment_settings(url, {}, True, None, None)
                    answer = session.send(
                        request, timeout=_TIMEOUTS_S, allow_redirects=False, **settings
                    )
                    if not answer.is_redirect:
                        _check_status(answer, url, method)
                        yield answer
                        return
                    answer.close()
                    url = urljoin(url, answer.headers["Location"])
            except requests.exceptions.SSLError as error:
                raise UnavailableError(errno.EPROTO, f"{url}: {error}") from error
            except _BROKEN_CONNECTION as error:
                raise _BusyError(str(error)) from error
            except (requests.RequestException, ValueError) as error:
                raise FileNotFoundError(errno.ENOENT, f"not a URL: {error}", url) from error
        raise RefusedError(f"{url}: more than {_MAX_REDIRECTS} redirects")

    def _too_slow(self, url: str) -> str:
        return f"{url}: takes more than {self.seconds:g} s"


class _NoHeadError(Exception):
    """A server does not answer HEAD as it does GET."""


def is_web(url: str) -> bool:
    """Return whether a URL is one of http or https."""
    return _WEB.match(url) is not None


def user_agent() -> str:
    """Return the `User-Agent` of this process' environment, or that of this program.

    Raises:
        UserError: it can't be sent.
    """
    text = os.environ.get(USER_AGENT_VARIABLE) or _own_user_agent()
    if not (text.isascii() and text.isprintable()) or text.strip() != text:
        raise UserError(f"--user-agent: {text!r}, allowed: printable ASCII characters")
    return text


@cache
def _own_user_agent() -> str:
    return f"intertitle/{version('intertitle')}"


def _check_host(request: requests.PreparedRequest, url: str) -> None:
    """Check that a request goes to the host that was allowed."""
    host = urlsplit(url).hostname or ""
    sent_to = (parse_url(request.url or "").host or "").strip("[]")
    # Other names are sent in the form of IDNA.
    if host.isascii() and sent_to != host:
        raise RefusedError(f"{one_line(url)}: leads to {sent_to} or {host}, allowed: one host")


def _check_status(answer: requests.Response, url: str, method: str) -> None:
    status = answer.status_code
    if status in _BUSY_STATUS:
        raise _BusyError(f"status {status}", _retry_after_s(answer))
    if status in _GONE_STATUS:
        raise FileNotFoundError(errno.ENOENT, f"gone: status {status}", url)
    if status >= 300:
        if method == "HEAD" and status in (400, 403, 405, 501):
            raise _NoHeadError
        raise RefusedError(f"{url}: status {status}")


def _check_opt_out(answer: requests.Response, url: str) -> None:
    for value in answer.raw.headers.getlist("X-Robots-Tag"):
        if _opts_out(value):
            raise RefusedError(f"{url}: opts out: X-Robots-Tag: {one_line(value)}")


def _opts_out(value: str) -> bool:
    """Return whether a value of X-Robots-Tag, `[ROBOT:] DIRECTIVE, ...`, opts out."""
    is_addressed = True
    for number, part in enumerate(value.lower().split(",")):
        name, colon, rest = (text.strip() for text in part.partition(":"))
        # The colons of some directives are in front of their values.
        if colon and not name.startswith("max-") and name != "unavailable_after":
            if number == 0 or name == _ROBOT:
                is_addressed = name == _ROBOT
            name = rest
        if is_addressed and name in OPT_OUTS:
            return True
    return False


def _content_length(answer: requests.Response) -> int:
    """Return the size that a server says in bytes, -1 if it says none."""
    text = answer.headers.get("Content-Length", "")
    return int(text) if _LENGTH.fullmatch(text) else -1


def _retry_after_s(answer: requests.Response) -> float:
    with suppress(ValueError):
        return max(0.0, min(float(answer.headers.get("Retry-After", 0)), MAX_PAUSE_S))
    return 0.0


def _changed_ns(answer: requests.Response) -> int:
    with suppress(ValueError, TypeError, OverflowError):
        changed = parsedate_to_datetime(answer.headers.get("Last-Modified", ""))
        return int(changed.timestamp()) * 10**9
    return 0


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    pause = wait_random_exponential(multiplier=0.5, max=MAX_PAUSE_S)(state)
    return pause + (error.pause_s if isinstance(error, _BusyError) else 0.0)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
