"""A site that files are fetched from."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """A site with files, redirects and a slow answer; counts its requests by path."""

    def __init__(self, host: str, content: bytes = b"content") -> None:
        self.paths: list[str] = []
        self.redirects: dict[str, str] = {}
        self.ended = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.paths.append(self.path)
                if self.path == "/slow":
                    site.ended.wait(10)
                target = site.redirects.get(self.path)
                self.send_response(302 if target else 200)
                if target:
                    self.send_header("Location", target)
                self.end_headers()
                if self.path == "/endless":
                    while not site.ended.is_set():
                        try:
                            self.wfile.write(b"x" * 65536)
                        except OSError:
                            return
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
