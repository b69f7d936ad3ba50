"""Metrics of the server in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts and times of requests of one process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Counter(
            "intertitle_requests", "Requests.", ("path", "status"), registry=registry
        )
        self._in_flight = Gauge(
            "intertitle_requests_in_flight", "Requests that are being answered.", registry=registry
        )
        self._inputs = Counter(
            "intertitle_inputs", "Answered inputs.", ("model",), registry=registry
        )
        self._seconds = Histogram(
            "intertitle_predict_seconds",
            "Time from the first byte of a request to its answer.",
            ("model",),
            buckets=_BUCKETS,
            registry=registry,
        )

    def answered(self, model: str, num_inputs: int, seconds: float) -> None:
        """Count the inputs of a request, and observe its time."""
        self._inputs.labels(model).inc(num_inputs)
        self._seconds.labels(model).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics."""
        return generate_latest(self._registry)

    @property
    def middleware(self) -> Callable[[ASGIApp], ASGIApp]:
        """ASGI middleware that counts requests by the template of their path and their status."""

        def wrap(app: ASGIApp) -> ASGIApp:
            async def counted(scope: Scope, receive: Receive, send: Send) -> None:
                if scope["type"] != "http":
                    await app(scope, receive, send)
                    return
                status = 500

                async def sending(message: Message) -> None:
                    nonlocal status
                    if message["type"] == "http.response.start":
                        status = message["status"]
                    await send(message)

                self._in_flight.inc()
                try:
                    await app(scope, receive, sending)
                finally:
                    self._in_flight.dec()
                    # A path that a caller makes up must not become a time series.
                    path = getattr(scope.get("route"), "path", "other")
                    self._requests.labels(path, status).inc()

            return counted

        return wrap
