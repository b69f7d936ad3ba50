"""Access to S3 through s3fs, with one layer of retries instead of three.

With separate retries in botocore, s3fs and this project, one write during an outage made 140
requests in 213 seconds. This module is the only place that retries a request: with growing random
pauses that are at least as long as the server requests (`Retry-After`), until a deadline.
Credentials that are refused are renewed once through botocore's credential chain; if they are
refused again, the job ends.

`storage.paths` registers the class for `s3://`; no other module needs to import this one.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from http.client import IncompleteRead
from typing import Any

from aiohttp import ClientError as HTTPError
from botocore.exceptions import (
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError
from fsspec.exceptions import FSTimeoutError
from s3fs import S3FileSystem
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_before_delay,
    wait_random_exponential,
)

from intertitle.pipeline.storage.faults import CredentialsError, UnavailableError

# Time in seconds for which a request is retried. It is half of an item's default time limit, so
# that a slow object store is not mistaken for a slow video.
DEADLINE_S = 60.0
MAX_PAUSE_S = 15.0

_BUSY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_BUSY_CODES = frozenset(
    {
        *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted"),
        *("Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"),
        "XAmzContentSHA256Mismatch",
    }
)
_BROKEN_CONNECTION = (
    *(HTTPClientError, ConnectionError, HTTPError, IncompleteRead, ResponseParserError),
    *(FSTimeoutError, TimeoutError),
)
_REFUSED_CODES = frozenset(
    {
        *("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"),
        *("InvalidAccessKeyId", "InvalidClientTokenId", "SignatureDoesNotMatch"),
        "RequestExpired",
    }
)
_NO_CREDENTIALS = (
    *(NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError),
)

# Whether this task is inside a request that is already being retried.
_retrying: ContextVar[bool] = ContextVar("retrying", default=False)


class PatientS3(S3FileSystem):  # type: ignore[misc]
    """S3 file system whose requests are retried by this class only, not by s3fs or botocore."""

    def __init__(
        self, *args: Any, config_kwargs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        no_retries = {"retries": {"mode": "standard", "total_max_attempts": 1}}
        super().__init__(*args, config_kwargs={**no_retries, **(config_kwargs or {})}, **kwargs)

    @property
    def retries(self) -> int:
        """Number of tries of s3fs itself: one for a request, three for reading a response."""
        return 1 if _retrying.get() else 3

    async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
        renewed = False
        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_busy),
            wait=_pause,
            stop=stop_before_delay(DEADLINE_S),
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    try:
                        return await self._once(method, *args, **kwargs)
                    except Exception as error:
                        if renewed or not await self._refused(error, method, **kwargs):
                            raise
                    renewed = True
                    await self.set_session(refresh=True)
                    return await self._once(method, *args, **kwargs)
        except Exception as error:
            if _is_busy(error):
                line = f"no proper answer within {DEADLINE_S:g} s: {error}"
                raise UnavailableError(errno.EBUSY, line) from error
            if await self._refused(error, method, **kwargs):
                bucket_url = f"s3://{kwargs.get('Bucket', '')}"
                raise CredentialsError(
                    f"{bucket_url}: the credentials are refused, and those of a new session too: "
                    f"{error}; renew them and call again: what is done is kept"
                ) from error
            raise

    def create_file(self, path: str, data: bytes) -> bool:
        """Create an object unless one exists under its name (`If-None-Match: *`).

        Some stores ignore the condition and replace the object.

        Returns:
            Whether the object was created. If a response is lost and the request is repeated, it is
            False although the object is the one that was sent.

        Raises:
            NotImplementedError: the store refuses conditional writes.
        """
        try:
            self.pipe_file(path, data, mode="create")
        except OSError as error:
            _, status = _answer(error)
            if status in (409, 412):
                return False
            if status == 501:
                raise NotImplementedError(f"{path}: no conditional writes") from error
            raise
        return True

    async def _once(self, method: str, *args: Any, **kwargs: Any) -> Any:
        body = kwargs.get("Body")
        if body is not None and hasattr(body, "seek"):
            body.seek(0)
        token = _retrying.set(True)
        try:
            return await super()._call_s3(method, *args, **kwargs)
        finally:
            _retrying.reset(token)

    async def _refused(self, error: BaseException, method: str, **kwargs: Any) -> bool:
        """Return whether an error concerns the credentials rather than one object."""
        if isinstance(error, _NO_CREDENTIALS):
            return not self.anon
        code, status = _answer(error)
        if method == "head_object" and code in ("400", "403"):
            # A response to HEAD has no body and so no reason for the error; a response to GET has.
            location = {"Bucket": kwargs["Bucket"], "Key": kwargs["Key"]}
            try:
                (await self._once("get_object", Range="bytes=0-0", **location))["Body"].close()
            except Exception as answer:
                code, status = _answer(answer)
        return status in (400, 401, 403) and code in _REFUSED_CODES

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        # s3fs would try to create a bucket that it cannot inspect.
        bucket, _, _ = self.split_path(path)
        try:
            await self._call_s3("head_bucket", Bucket=bucket)
        except FileNotFoundError:
            await super()._makedirs(path, exist_ok=exist_ok)
        except PermissionError:
            # The credentials may allow writing objects but not inspecting their bucket.
            return

    async def _isfile(self, path: str) -> bool:
        # s3fs would report a file as missing if the object store does not answer.
        try:
            info = await self._info(path)
        except FileNotFoundError:
            return False
        return bool(info["type"] == "file")


def _is_busy(error: BaseException) -> bool:
    """Return whether a retry of the request may succeed."""
    if isinstance(error, _BROKEN_CONNECTION):
        return True
    code, status = _answer(error)
    return code in _BUSY_CODES or status in _BUSY_STATUS


def _pause(state: RetryCallState) -> float:
    pause = wait_random_exponential(multiplier=0.4, max=MAX_PAUSE_S)(state)
    error = state.outcome.exception() if state.outcome else None
    retry_after = (
        _response(error).get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after")
    )
    with suppress(TypeError, ValueError):
        # The random part keeps clients that received the same time from returning all at once.
        return float(retry_after) + min(pause, 1.0)
    return float(pause)


def _answer(error: BaseException) -> tuple[str, int]:
    """Return the error code and HTTP status of a response; ("", 0) if there was none."""
    response = _response(error)
    code = str(response.get("Error", {}).get("Code", ""))
    return code, int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _response(error: BaseException | None) -> dict[str, Any]:
    # s3fs converts botocore's exception to an OSError whose cause is that exception.
    for raised in (error, getattr(error, "__cause__", None)):
        if isinstance(raised, ClientError):
            return dict(raised.response)
    return {}
