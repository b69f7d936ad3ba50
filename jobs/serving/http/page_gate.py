"""Choice of Gradio's routes that browsers may use: those that the page needs."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.http.guard import error_response
from intertitle.jobs.serving.http.uploads import SWEEP_S, Uploads

_API = "/gradio_api"
_UPLOAD = f"{_API}/upload"
_PATHS = frozenset(
    (
        "/",
        "/config",
        "/favicon.ico",
        "/manifest.json",
        "/theme.css",
        _UPLOAD,
        *(
            f"{_API}/{name}"
            for name in (
                "app_id",
                "cancel",
                "info",
                "queue/data",
                "queue/join",
                "reset",
                # Clicks on examples; functions that wait in the queue refuse it.
                "run/predict",
                "startup-events",
                "upload_progress",
            )
        ),
    )
)
_FOLDERS = ("/assets/", "/static/", f"{_API}/heartbeat/")
_FILE = f"{_API}/file="


class PageGate:
    """ASGI middleware that hides the other routes, some of which fetch URLs or run programs.

    Args:
        app: Gradio's application.
        uploads: folder of uploads, whose files are the only ones that can be fetched.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self._app, self._uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that there is no such path or no space for an upload."""
        if scope["type"] == "http":
            if not self._is_open(scope["path"]):
                error = ApiError(404, "path", scope["path"], "Not Found")
                await error_response(error)(scope, receive, send)
                return
            if scope["path"] == _UPLOAD and await asyncio.to_thread(self._uploads.is_full):
                allowed = "fewer uploads: they are deleted after an hour"
                error = ApiError(503, "file", "", allowed, retry_after_s=round(SWEEP_S))
                await error_response(error)(scope, receive, send)
                return
            # Gradio lets pages of the origin read its answers; this server has one page alone.
            headers = [item for item in scope["headers"] if item[0] != b"origin"]
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        if path.startswith(_FILE):
            return self._uploads.has(path.removeprefix(_FILE))
        return path in _PATHS or path.startswith(_FOLDERS)
