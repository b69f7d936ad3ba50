"""Checks of every request before its body is read: caller, token, size and capacity."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections import Counter
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intertitle.jobs.serving.config import ServerConfig
from intertitle.jobs.serving.errors import ApiError, full
from intertitle.jobs.serving.http.capacity import Capacity

# Answered without a token, for load balancers.
_OPEN_PATHS = ("/healthz", "/readyz")
# Scripts and styles come from this server alone; inline ones are those of /docs.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; "
    "base-uri 'self'; form-action 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
# A page holds a request to one of these for as long as it is open.
_HEARTBEATS = "/gradio_api/heartbeat/"


class Guard:
    """ASGI middleware that refuses requests before the application reads them.

    Args:
        app: application.
        config: settings of the server.
        capacity: bytes of requests. The application finds the claim of a request in its state.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig, capacity: Capacity) -> None:
        self._app, self._config, self._limits = app, config, config.limits
        self._capacity = capacity
        # Numbers of requests in flight, by kind.
        self._requests: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and pass it on."""
        if scope["type"] != "http":
            if scope["type"] != "lifespan":
                return
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_lookup = scope["method"] in ("GET", "HEAD")
        is_open = is_lookup and scope["path"] in _OPEN_PATHS
        is_page = is_lookup and scope["path"].startswith(_HEARTBEATS)
        kind = "page" if is_page else "lookup" if is_lookup else "work"
        try:
            self._check_caller(scope, headers)
            if not is_open:
                self._check_token(headers)
            if is_lookup:
                self._check_no_body(scope, headers)
            if self._requests[kind] >= self._limits.requests and not is_open:
                raise full(f"{self._limits.requests} requests at a time: try again")
            claim = self._capacity.claim(0 if is_lookup else self._claimed_bytes(headers))
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        scope["state"] = {**scope.get("state", {}), "claim": claim}
        self._requests[kind] += 1
        try:
            await self._app(scope, self._counted(receive), _with_headers(send))
        finally:
            self._requests[kind] -= 1
            claim.release()

    def _check_caller(self, scope: Scope, headers: Headers) -> None:
        """Refuse a page of another site that a browser shows."""
        host = headers.get("host", "")
        # An IPv6 address has colons of its own.
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if self._config.host_names and name not in self._config.host_names:
            raise ApiError(421, "Host", host, ", ".join(self._config.host_names))
        origin = headers.get("origin")
        own = (f"http://{host}", f"https://{host}")
        if origin and origin not in own:
            raise ApiError(403, "Origin", origin, f"a page of {host}")

    def _check_token(self, headers: Headers) -> None:
        if self._config.token_sha256 is None:
            return
        token = _token_of(headers.get("authorization", ""))
        if not self._is_token(token):
            allowed = "Bearer and the token of this server"
            raise ApiError(401, "Authorization", "missing" if not token else "wrong", allowed)

    def _is_token(self, token: str) -> bool:
        digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        return hmac.compare_digest(digest, str(self._config.token_sha256))

    def _check_no_body(self, scope: Scope, headers: Headers) -> None:
        if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
            raise ApiError(400, "body", "given", f"none for {scope['method']}")

    def _claimed_bytes(self, headers: Headers) -> int:
        claimed = headers.get("content-length")
        if claimed is None:
            return self._limits.body_bytes
        if not claimed.isdecimal():
            raise ApiError(400, "Content-Length", claimed, "a whole number")
        if int(claimed) > self._limits.body_bytes:
            raise self._too_large(claimed)
        return int(claimed)

    def _too_large(self, size: str) -> ApiError:
        return ApiError(413, "body", f"{size} bytes", f"at most {self._limits.body_bytes:,} bytes")

    def _counted(self, receive: Receive) -> Receive:
        num_bytes, is_complete = 0, False

        async def counted() -> Message:
            nonlocal num_bytes, is_complete
            try:
                # What follows the body is that the caller goes away, at any time.
                async with asyncio.timeout(None if is_complete else self._limits.body_seconds):
                    message = await receive()
            except TimeoutError as error:
                allowed = f"one whose parts come within {self._limits.body_seconds:g} s each"
                raise ApiError(408, "body", f"{num_bytes:,} bytes", allowed) from error
            is_complete = not message.get("more_body", False)
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._limits.body_bytes:
                raise self._too_large(f"{num_bytes:,}")
            return message

        return counted


def _token_of(authorization: str) -> str:
    """Return the token of a header; "" if there is none.

    A browser asks for a password and sends it with each request of the page: the token is the
    password of any user name.
    """
    kind, _, value = authorization.partition(" ")
    match kind.lower():
        case "bearer":
            return value.strip()
        case "basic":
            with suppress(binascii.Error, ValueError):
                return base64.b64decode(value, validate=True).decode().partition(":")[2]
    return ""


def error_response(error: ApiError) -> JSONResponse:
    """Return the response to an error."""
    return JSONResponse(error.body(), error.status, error.headers())


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sending
