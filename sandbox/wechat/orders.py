"""Endpoints of prepaid orders (JSAPI, Native), the queries and the closing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sandbox.wechat import payloads
from sandbox.wechat.calls import Answer, Call
from sandbox.wechat.clock import BEIJING, parse_rfc3339
from sandbox.wechat.model import Order, fingerprint
from sandbox.wechat.rules import Mangle, Paying, payer_rule
from sandbox.wechat.states import (
    ERRNO_REVERSE_ONLY,
    REENTRY,
    ApiError,
    Product,
    TradeState,
)

_MIN_LIFE_MS = 60_000
CODE_URL_PREFIX = "weixin://wxpay/bizpayurl?pr="


def new_order(call: Call, product: Product) -> Order:
    """Take over the fields every product shares; the order is not stored yet."""
    body = call.body
    now = call.engine.now_ms()
    expire_ms = 0
    if "time_expire" in body:
        # Less than a minute counts as a minute.
        expire_ms = max(parse_rfc3339(body["time_expire"]), now + _MIN_LIFE_MS)
    return Order(
        mchid=call.mchid,
        appid=body["appid"],
        out_trade_no=body["out_trade_no"],
        product=product.value,
        description=body["description"],
        fingerprint=fingerprint({**body, "product": product.value}),
        total_fen=body["amount"]["total"],
        created_ms=now,
        attach=body.get("attach", ""),
        notify_url=body.get("notify_url", ""),
        scene_info=body.get("scene_info"),
        expire_ms=expire_ms,
        history=[[TradeState.NOTPAY.value, now]],
    )


def refuse_reentry(order: Order, fresh: Order) -> None:
    """Answer a second create call from the re-entry table; returns only when a fresh prepay is due."""
    rule = REENTRY[order.trade_state, order.fingerprint == fresh.fingerprint]
    if rule.code:
        raise ApiError(rule.code, rule.message, rule.errno)


def _prepay_id(call: Call, order: Order) -> str:
    now = call.engine.state.clock.now().astimezone(BEIJING)
    tail = hashlib.sha256(f"{order.key}{call.engine.state.number()}".encode()).hexdigest()[:18]
    return f"wx{now:%d%H%M%S}{tail}{now:%Y%m%d}"


def _create(call: Call, product: Product, openid: str) -> tuple[Order, str]:
    """Create or re-enter; returns the order and a notification to wait for."""
    engine = call.engine
    rule = payer_rule(openid)
    if rule.rejected:
        raise ApiError("INVALID_REQUEST", "无效的openid")
    fresh = new_order(call, product)
    fresh.openid = openid
    known = engine.state.order(call.mchid, fresh.out_trade_no)
    if known is not None:
        refuse_reentry(engine.refresh(known), fresh)
        return known, ""
    engine.state.touch_order(fresh)
    engine.state.event("order.created", fresh.out_trade_no, product=product.value, total_fen=fresh.total_fen)
    return fresh, engine.apply_payer_rule(fresh, rule) if openid else ""


def create_jsapi(call: Call) -> Answer:
    """POST /v3/pay/transactions/jsapi"""
    order, wait = _create(call, Product.JSAPI, call.body["payer"]["openid"])
    prepay_id = _prepay_id(call, order)
    order.prepays.append([prepay_id, call.engine.now_ms()])
    call.engine.state.touch_order(order)
    return Answer(payload={"prepay_id": prepay_id}, wait_notify=wait)


def create_native(call: Call) -> Answer:
    """POST /v3/pay/transactions/native"""
    order, _ = _create(call, Product.NATIVE, "")
    digest = hashlib.sha256(f"{order.key}{call.engine.state.number()}".encode()).hexdigest()
    code_url = CODE_URL_PREFIX + digest[:9]
    order.code_urls.append([code_url, call.engine.now_ms()])
    call.engine.state.touch_order(order)
    return Answer(payload={"code_url": code_url})


def _show(call: Call, order: Order) -> Answer:
    if order.visible_ms > call.engine.now_ms():
        raise ApiError("ORDER_NOT_EXIST")  # replication delay: executed, not visible yet
    mangle = Mangle.NONE
    if order.lost_queries:
        order.lost_queries -= 1
        call.engine.state.touch_order(order)
        mangle = Mangle.LOST
    return Answer(payload=payloads.transaction(order), mangle=mangle)


def query_by_number(call: Call) -> Answer:
    """GET /v3/pay/transactions/out-trade-no/{n}?mchid="""
    call.check_query_mchid()
    return _show(call, call.order(call.params["otn"]))


def query_by_id(call: Call) -> Answer:
    """GET /v3/pay/transactions/id/{transaction_id}?mchid="""
    call.check_query_mchid()
    key = call.engine.state.by_transaction.get(call.params["transaction_id"])
    order = call.engine.state.orders.get(key or "")
    if order is None or order.mchid != call.mchid:
        raise ApiError("ORDER_NOT_EXIST")
    return _show(call, order)


def close(call: Call) -> Answer:
    """POST /v3/pay/transactions/out-trade-no/{n}/close; 204, also for a closed order."""
    order = call.order(call.params["otn"])
    if order.is_codepay:
        raise ApiError("INVALID_REQUEST", "当前交易不允许进行普通关单", ERRNO_REVERSE_ONLY)
    racing = payer_rule(order.openid).paying is Paying.AT_CLOSE
    if racing and order.trade_state is TradeState.NOTPAY:
        call.engine.pay(order, order.openid)
    if order.is_paid:
        raise ApiError("ORDER_PAID")
    if order.trade_state is TradeState.NOTPAY:
        call.engine.close(order)
    return Answer(status=204)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """What a telephone shows after scanning a Native code."""

    out_trade_no: str
    description: str
    total_fen: int

    def as_dict(self) -> dict[str, Any]:
        """For the admin API."""
        return {
            "out_trade_no": self.out_trade_no,
            "description": self.description,
            "total_fen": self.total_fen,
        }
