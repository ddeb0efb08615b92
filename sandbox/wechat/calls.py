"""What passes between the pipeline of the world and an endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandbox.wechat.engine import Engine
from sandbox.wechat.model import Order
from sandbox.wechat.rules import Mangle
from sandbox.wechat.signing import Keyring
from sandbox.wechat.states import ERRNO_WRONG_MERCHANT, ApiError


@dataclass(slots=True, kw_only=True)
class Call:
    """One authenticated, schema-checked request. `params` come from the path."""

    engine: Engine
    ring: Keyring
    mchid: str
    params: dict[str, str]
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]

    def order(self, out_trade_no: str) -> Order:
        """The merchant's order; raises ApiError ORDER_NOT_EXIST."""
        order = self.engine.state.order(self.mchid, out_trade_no)
        if order is None:
            raise ApiError("ORDER_NOT_EXIST")
        return self.engine.refresh(order)

    def check_query_mchid(self) -> None:
        """`?mchid=` is required by the queries and must be the caller's; raises ApiError PARAM_ERROR."""
        if self.query.get("mchid") != self.mchid:
            raise ApiError("PARAM_ERROR", "mchid不匹配", ERRNO_WRONG_MERCHANT)


@dataclass(slots=True, kw_only=True)
class Answer:
    """What an endpoint answers; `mangle` and `wait_notify` are carried out by the pipeline."""

    status: int = 200
    payload: dict[str, Any] | None = field(default=None)
    mangle: Mangle = Mangle.NONE
    wait_notify: str = ""
    errno: int = 0


def error_answer(code: str, mangle: Mangle = Mangle.NONE, message: str = "") -> Answer:
    """An error that does not undo what was executed (SYSTEM_ERROR although paid)."""
    error = ApiError(code, message)
    return Answer(status=error.http, payload=error.payload(), mangle=mangle, errno=error.number)


@dataclass(slots=True, kw_only=True)
class Reply:
    """One answer. `lost`: executed but never answered. `reset`: cut before anything was executed."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    lost: bool = False
    reset: bool = False
    delay_ms: int = 0
    wait_notify: str = ""
