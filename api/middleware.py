"""What every request passes: an id, log context, a size limit, refusal of hostile bytes, headers, metrics.

Plain ASGI, so that streams stay streams and nothing is copied twice.
"""

import secrets
import time
from collections.abc import Iterable
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem_response

MAX_BODY_BYTES = 256 * 1024
MAX_JSON_NESTING = 32
MAX_JSON_BRACKETS = 1_024
"""Opening and closing ones; no body of this API has a tenth of it. Bounds the work of one request before its login."""
_OPENERS = frozenset(b"[{")
_NO_BRACKETS = bytes(sorted(frozenset(range(256)) - frozenset(b"[]{}")))
_NUL_BYTES = (b"\x00", b"\\u0000")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

Header = tuple[bytes, bytes]
_ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_DATA: tuple[Header, ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class BodyRefusedError(Exception):
    """The body is too large or can only be an attack; carries the answer."""

    def __init__(self, status: int, code: str, title: str) -> None:
        super().__init__(code)
        self.status, self.code, self.title = status, code, title


class Metrics:
    """Counters of one app, in a registry of its own so that several apps can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "jiazhu_api_requests_total",
            "Requests by route, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "jiazhu_api_request_seconds",
            "Time to the answer's first byte by route.",
            ("route",),
            registry=self.registry,
            buckets=_BUCKETS,
        )


class RequestMiddleware:
    """Wraps an app; see the module."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; only HTTP is wrapped."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope["request_id"] = request_id
        reply = _Reply(scope, send, request_id, self._metrics)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                _check_target(scope)
                await self._app(scope, await _checked_body(scope, receive), reply)
            except BodyRefusedError as refused:
                answer = problem_response(refused.status, refused.code, refused.title, request_id=request_id)
                await answer(scope, receive, reply)


class _Reply:
    """Adds headers to the answer's start and counts it."""

    def __init__(self, scope: Scope, send: Send, request_id: str, metrics: Metrics) -> None:
        self._scope, self._send, self._metrics = scope, send, metrics
        self._request_id = request_id
        self._started = time.monotonic()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._add_headers(message)
            self._count(message["status"])
        await self._send(message)

    def _add_headers(self, message: Message) -> None:
        headers: list[Header] = list(message.get("headers", []))
        present = {name.lower() for name, _ in headers}
        extra: Iterable[Header] = _ALWAYS + _DATA if self._scope["path"].startswith("/v1/") else _ALWAYS
        headers += [h for h in extra if h[0] not in present]
        headers.append((b"x-request-id", self._request_id.encode()))
        message["headers"] = headers

    def _count(self, status: int) -> None:
        route: Any = self._scope.get("route")
        path = str(getattr(route, "path", "")) or "unmatched"
        self._metrics.requests.labels(path, self._scope["method"], str(status)).inc()
        self._metrics.seconds.labels(path).observe(time.monotonic() - self._started)


def _check_target(scope: Scope) -> None:
    """Refuse NUL in the path or the query: PostgreSQL cannot store it and nobody types it."""
    query: bytes = scope.get("query_string", b"")
    if "\x00" in scope["path"] or b"%00" in query or b"\x00" in query:
        raise BodyRefusedError(422, "invalid", "提交的内容有误")


async def _checked_body(scope: Scope, receive: Receive) -> Receive:
    """Read the whole body within its limit, check it, and return a `receive` that gives it again."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if length.isdigit() and int(length[:12]) > MAX_BODY_BYTES:
        raise BodyRefusedError(413, "body_too_large", "请求内容过大")
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return _replay(message, receive)
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        more = message.get("more_body", False)
        if size > MAX_BODY_BYTES:
            raise BodyRefusedError(413, "body_too_large", "请求内容过大")
    body = b"".join(chunks)
    _check_body(body)
    return _replay({"type": "http.request", "body": body, "more_body": False}, receive)


def _replay(first: Message, receive: Receive) -> Receive:
    pending = [first]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def _check_body(body: bytes) -> None:
    if any(nul in body for nul in _NUL_BYTES):
        raise BodyRefusedError(422, "invalid", "提交的内容有误")
    if body.count(b"[") + body.count(b"{") <= MAX_JSON_NESTING:
        return
    brackets = body.translate(None, _NO_BRACKETS)
    if len(brackets) > MAX_JSON_BRACKETS or _nesting(brackets) > MAX_JSON_NESTING:
        raise BodyRefusedError(422, "too_deep", "提交的内容有误")


def _nesting(brackets: bytes) -> int:
    """Return how deep brackets nest, at most. Those inside texts count too: the bound on their number is what protects."""
    depth = deepest = 0
    for byte in brackets:
        if byte in _OPENERS:
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth = max(depth - 1, 0)
    return deepest
