"""JSON objects of the v3 protocol, built from what the sandbox remembers."""

from __future__ import annotations

from typing import Any

from sandbox.wechat.clock import rfc3339
from sandbox.wechat.model import Order, Refund
from sandbox.wechat.states import TRADE_DESC, RefundState, TradeState

_NEVER_PAID = frozenset({TradeState.NOTPAY, TradeState.CLOSED, TradeState.USERPAYING, TradeState.PAYERROR})


def _promotion(order: Order) -> list[dict[str, Any]]:
    coupon_fen = order.total_fen - order.payer_total_fen
    return [
        {
            "coupon_id": f"C{order.transaction_id[-10:]}",
            "name": "加油代金券",
            "scope": "GLOBAL",
            "type": "CASH",
            "amount": coupon_fen,
            "stock_id": "9836588",
            "wechatpay_contribute": coupon_fen,
            "merchant_contribute": 0,
            "other_contribute": 0,
            "currency": "CNY",
        }
    ]


def transaction(order: Order) -> dict[str, Any]:
    """The query object; fields known only after payment are absent before."""
    body: dict[str, Any] = {
        "appid": order.appid,
        "mchid": order.mchid,
        "out_trade_no": order.out_trade_no,
        "trade_state": order.state,
        "trade_state_desc": TRADE_DESC[order.trade_state],
        "amount": {"total": order.total_fen, "currency": "CNY"},
    }
    if order.attach:
        body["attach"] = order.attach
    if order.openid:
        body["payer"] = {"openid": order.openid}
    if order.is_codepay:
        body["trade_type"] = order.product
    if not order.transaction_id or order.trade_state in _NEVER_PAID:
        return body
    body |= {
        "transaction_id": order.transaction_id,
        "trade_type": order.product,
        "bank_type": "OTHERS",
        "success_time": rfc3339(order.success_ms),
    }
    body["amount"] |= {"payer_total": order.payer_total_fen, "payer_currency": "CNY"}
    if order.scene_info and "device_id" in order.scene_info:
        body["scene_info"] = {"device_id": order.scene_info["device_id"]}
    if order.payer_total_fen < order.total_fen:
        body["promotion_detail"] = _promotion(order)
    return body


def _refund_amount(refund: Refund, order: Order) -> dict[str, Any]:
    return {
        "total": order.total_fen,
        "refund": refund.refund_fen,
        "payer_total": order.payer_total_fen,
        "payer_refund": refund.payer_refund_fen,
        "settlement_refund": refund.payer_refund_fen,
        "settlement_total": order.payer_total_fen,
        "discount_refund": refund.refund_fen - refund.payer_refund_fen,
        "currency": "CNY",
        "refund_fee": 0,
    }


def refund(found: Refund, order: Order) -> dict[str, Any]:
    """The refund object of create and query."""
    body: dict[str, Any] = {
        "refund_id": found.refund_id,
        "out_refund_no": found.out_refund_no,
        "transaction_id": found.transaction_id,
        "out_trade_no": found.out_trade_no,
        "channel": "ORIGINAL",
        "user_received_account": "支付用户零钱",
        "create_time": rfc3339(found.created_ms),
        "status": found.state,
        "funds_account": found.funds_account,
        "amount": _refund_amount(found, order),
        "promotion_detail": [],
    }
    if found.refund_state is RefundState.SUCCESS:
        body["success_time"] = rfc3339(found.success_ms)
    return body


def refund_notice(found: Refund, order: Order) -> dict[str, Any]:
    """The content of a refund notification, which differs from the query object in names."""
    body: dict[str, Any] = {
        "mchid": found.mchid,
        "transaction_id": found.transaction_id,
        "out_trade_no": found.out_trade_no,
        "refund_id": found.refund_id,
        "out_refund_no": found.out_refund_no,
        "refund_status": found.state,
        "user_received_account": "支付用户零钱",
        "amount": {
            "total": order.total_fen,
            "refund": found.refund_fen,
            "payer_total": order.payer_total_fen,
            "payer_refund": found.payer_refund_fen,
        },
    }
    if found.refund_state is RefundState.SUCCESS:
        body["success_time"] = rfc3339(found.success_ms)
    return body
