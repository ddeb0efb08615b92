"""Trades of the WeChat channel tests."""

from datetime import UTC, datetime
from typing import Any

from adapters.payments.wechat.channel import WeChatChannel
from contracts.payment import AttemptRef, AttemptSpec, RefundRequest
from domain.payment import PayMethod
from tests.unit.adapters.kit import TinyWeChat

TRADE = "PABCDEFGHIJKLMNOPQRSTUA001"
REFUND = f"{TRADE}Rrest"
EXPIRES = datetime(2026, 5, 1, 12, 0, 0, 250, tzinfo=UTC)


def channel(wechat: TinyWeChat) -> WeChatChannel:
    return WeChatChannel(
        core=wechat.core(),
        appid=wechat.keys.appid,
        notify_url="https://shop.example/pay",
        refund_notify_url="https://shop.example/refund",
    )


def spec(method: PayMethod, payer: str | None = None, **changes: Any) -> AttemptSpec:
    values: dict[str, Any] = {
        "out_trade_no": TRADE,
        "method": method,
        "amount_fen": 10000,
        "description": "加油 95#",
        "expires_at": EXPIRES,
        "station_code": "BJ01",
        "payer": payer,
    }
    return AttemptSpec(**{**values, **changes})


def ref(method: PayMethod = PayMethod.WECHAT_JSAPI, body: str = "{}") -> AttemptRef:
    return AttemptRef(out_trade_no=TRADE, method=method, amount_fen=10000, request_body=body)


def refund() -> RefundRequest:
    return RefundRequest(
        method=PayMethod.WECHAT_JSAPI,
        out_trade_no=TRADE,
        out_refund_no=REFUND,
        refund_fen=3000,
        total_fen=10000,
        reason="余额退回" * 30,
    )


def transaction(wechat: TinyWeChat, state: str, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "appid": wechat.keys.appid,
        "mchid": wechat.keys.mchid,
        "out_trade_no": TRADE,
        "trade_state": state,
        "trade_state_desc": "说明",
    }
    if state in ("SUCCESS", "REFUND"):
        body |= {
            "transaction_id": "4200000000000000000000000001",
            "success_time": "2023-11-15T06:13:20+08:00",
            "amount": {"total": 10000, "payer_total": 9500},
        }
    return {**body, **changes}
