"""What the sandbox remembers:

Orders, refunds, notifications, timers, money movements. Times are sandbox milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sandbox.wechat.states import (
    PAID,
    Product,
    RefundState,
    TradeState,
    check_refund_move,
    check_trade_move,
)


def fingerprint(body: dict[str, Any]) -> str:
    """Stable digest of request parameters, for re-entry and idempotency."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def order_key(mchid: str, out_trade_no: str) -> str:
    """`out_trade_no` is unique per merchant across all products."""
    return f"{mchid}/{out_trade_no}"


@dataclass(kw_only=True)
class Order:
    """One order of a merchant. `payer_total_fen` < `total_fen` when a coupon paid a part."""

    mchid: str
    appid: str
    out_trade_no: str
    product: str
    description: str
    fingerprint: str
    total_fen: int
    created_ms: int
    attach: str = ""
    notify_url: str = ""
    openid: str = ""
    auth_code: str = ""
    scene_info: dict[str, Any] | None = None
    expire_ms: int = 0
    state: str = TradeState.NOTPAY.value
    history: list[list[Any]] = field(default_factory=list)
    payer_total_fen: int = 0
    transaction_id: str = ""
    success_ms: int = 0
    visible_ms: int = 0
    prepays: list[list[Any]] = field(default_factory=list)
    code_urls: list[list[Any]] = field(default_factory=list)
    reverse_failures: int = 0
    pays_on_reverse: bool = False
    coupon: bool = False
    lost_queries: int = 0
    refund_nos: list[str] = field(default_factory=list)
    last_refund_ms: int = 0

    @property
    def key(self) -> str:
        """Key in the world."""
        return order_key(self.mchid, self.out_trade_no)

    @property
    def trade_state(self) -> TradeState:
        """`state` as the enumeration."""
        return TradeState(self.state)

    @property
    def is_paid(self) -> bool:
        """Whether money has come in and was not reversed."""
        return self.trade_state in PAID

    @property
    def is_codepay(self) -> bool:
        """Pay-by-code orders have their own states and are reversed, not closed."""
        return self.product == Product.MICROPAY

    def move(self, new: TradeState, at_ms: int) -> None:
        """Change state and append to the history; raises IllegalMove."""
        check_trade_move(self.trade_state, new)
        self.state = new.value
        self.history.append([new.value, at_ms])


@dataclass(kw_only=True)
class Refund:
    """One refund.

    `payer_refund_fen` is what the payer gets back in money, the rest goes back to the coupon.
    """

    mchid: str
    out_refund_no: str
    refund_id: str
    out_trade_no: str
    transaction_id: str
    fingerprint: str
    refund_fen: int
    payer_refund_fen: int
    created_ms: int
    reason: str = ""
    notify_url: str = ""
    funds_account: str = "AVAILABLE"
    state: str = RefundState.PROCESSING.value
    history: list[list[Any]] = field(default_factory=list)
    success_ms: int = 0
    planned: str = RefundState.SUCCESS.value
    duplicate_notice: bool = False

    @property
    def key(self) -> str:
        """Key in the world."""
        return order_key(self.mchid, self.out_refund_no)

    @property
    def refund_state(self) -> RefundState:
        """`state` as the enumeration."""
        return RefundState(self.state)

    def move(self, new: RefundState, at_ms: int) -> None:
        """Change state and append to the history; raises IllegalMove."""
        check_refund_move(self.refund_state, new)
        self.state = new.value
        self.history.append([new.value, at_ms])


class NotifyStatus(StrEnum):
    """Life of a notification."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"


@dataclass(kw_only=True)
class Notify:
    """One notification with its tries.

    `tamper` counts deliveries still to be spoilt; `key` is pubkey or platform.
    """

    id: str
    event_id: str
    mchid: str
    url: str
    event_type: str
    original_type: str
    summary: str
    out_trade_no: str
    resource: dict[str, Any]
    created_ms: int
    status: str = NotifyStatus.PENDING.value
    tries: int = 0
    tamper: int = 0
    key: str = "pubkey"
    probe: bool = False
    attempts: list[list[int]] = field(default_factory=list)


@dataclass(kw_only=True)
class Timer:
    """Something due later: `action` is a handler name of the engine, `ref` its argument."""

    id: str
    due_ms: int
    seq: int
    action: str
    ref: str
    argument: str = ""


@dataclass(kw_only=True)
class Movement:
    """One leg of a double-entry posting; the legs of a `posting` sum to zero. `fen` > 0 is a credit."""

    seq: int
    posting: str
    kind: str
    at_ms: int
    account: str
    mchid: str
    out_trade_no: str
    fen: int
