"""Prometheus metrics, and the small HTTP server on which processes without an HTTP interface answer probes."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
LATENCY_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def render(registry: CollectorRegistry = REGISTRY) -> bytes:
    """The text that a scrape gets."""
    return generate_latest(registry)


def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
    """A counter `jiazhu_<name>_total`. Labels are few and bounded: never an order number, never a person."""
    return Counter(f"jiazhu_{name}", text, labels)


def latency(name: str, text: str, labels: tuple[str, ...] = ()) -> Histogram:
    """A histogram `jiazhu_<name>_seconds` with the same buckets everywhere, so that they can be added up."""
    return Histogram(f"jiazhu_{name}_seconds", text, labels, buckets=LATENCY_BUCKETS_S)


class ProbeServer:
    """Answers /healthz (the process lives), /readyz (it can serve.

    `ready` says so) and /metrics, on a thread.
    """

    def __init__(self, host: str, port: int, ready: Callable[[], bool]) -> None:
        """Bind at once; port 0 takes a free one."""
        self._server = ThreadingHTTPServer((host, port), _handler(ready))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _handler(ready: Callable[[], bool]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One probe."""

        def do_GET(self) -> None:
            """Answer by path; the name is fixed by the standard library."""
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE, render())
            elif self.path == "/healthz":
                self._answer(200, "application/json", b'{"status": "ok"}')
            elif self.path == "/readyz":
                serves = ready()
                body = b'{"status": "ok"}' if serves else b'{"status": "not ready"}'
                self._answer(200 if serves else 503, "application/json", body)
            else:
                self._answer(404, "application/json", b'{"status": "not found"}')

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds; they are not logged."""

    return Handler
