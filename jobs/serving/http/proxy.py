"""Limit on what Ray Serve's proxy reads of a request before the application has answered.

The proxy takes a body as fast as it comes and keeps it in memory, whatever the application reads of
it. Serve calls the function that `VARIABLE` names in each proxy, so the variable has to be in the
environment of the processes of Ray.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import MutableMapping

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
# Maximum size of a body in bytes, as the server of models has it.
BYTES_VARIABLE = "INTERTITLE_PROXY_BODY_BYTES"
_DEFAULT_BYTES = 64 * 2**20


def set_limit(environment: MutableMapping[str, str], body_bytes: int) -> None:
    """Limit what the proxies of a Ray that is started with an environment read ahead."""
    environment[VARIABLE] = f"{__name__}:{middlewares.__name__}"
    environment[BYTES_VARIABLE] = str(body_bytes)


def middlewares() -> list[Middleware]:
    """Return the middlewares of a proxy."""
    max_bytes = int(os.environ.get(BYTES_VARIABLE, _DEFAULT_BYTES))
    return [Middleware(ReadAheadLimit, max_bytes=max_bytes)]


class ReadAheadLimit:
    """ASGI middleware that reads no more of a body that is larger than allowed.

    The application has then enough of it to refuse it, and the response ends the request.

    Args:
        app: application.
        max_bytes: maximum size of a body in bytes.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        num_bytes = 0

        async def limited() -> Message:
            nonlocal num_bytes
            if num_bytes > self._max_bytes:
                await asyncio.Event().wait()
            message = await receive()
            num_bytes += len(message.get("body", b""))
            return message

        await self._app(scope, limited, send)
