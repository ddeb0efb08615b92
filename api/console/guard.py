"""Refuses in Chinese: input that no query can carry, and forms of a page that is too old."""

from http import HTTPStatus
from urllib.parse import unquote_to_bytes

import structlog
from sqlalchemy.exc import DataError, StatementError
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger(__name__)
_CSRF_REFUSAL = b"CSRF token "


class InputGuard:
    """Answers 400 to NUL characters in the address and to values that PostgreSQL refuses (out of range, not text)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless its address is unusable."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = PlainTextResponse("请求内容无效", status_code=400)
        if _unusable(scope):
            await refusal(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except (DataError, StatementError) as exc:
            if started or not (isinstance(exc, DataError) or isinstance(exc.orig, ValueError)):
                raise
            _log.warning("console.input.refused", path=Request(scope).url.path, error=type(exc).__name__)
            await refusal(scope, receive, send)


class ExpiredForm:
    """Puts the framework's refusal of a form without a valid CSRF token into words that a cashier can act on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; only a 403 that is the token's is said in other words."""
        refused: Message | None = None

        async def say(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.FORBIDDEN:
                refused = message
                return
            if refused is not None:
                if message.get("body", b"").startswith(_CSRF_REFUSAL):
                    answer = PlainTextResponse("页面已过期，请返回上一页，刷新后再提交", HTTPStatus.FORBIDDEN)
                    await answer(scope, receive, send)
                    return
                await send(refused)
                refused = None
            await send(message)

        await self.app(scope, receive, say)


def _unusable(scope: Scope) -> bool:
    if "\x00" in scope["path"]:
        return True
    raw = unquote_to_bytes(scope.get("query_string", b"").replace(b"+", b" "))
    try:
        raw.decode()
    except UnicodeDecodeError:
        return True
    return b"\x00" in raw
