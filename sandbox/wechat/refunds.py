"""Endpoints of refunds: idempotent by `out_refund_no`, money first in transit, then at the payer."""

from __future__ import annotations

from typing import Any

from sandbox.wechat import payloads
from sandbox.wechat.calls import Answer, Call, error_answer
from sandbox.wechat.engine import DAY_MS
from sandbox.wechat.model import Order, Refund, fingerprint, order_key
from sandbox.wechat.rules import Mangle, RefundRule, refund_rule
from sandbox.wechat.states import ApiError, RefundState


def _order_of(call: Call) -> Order:
    state, body = call.engine.state, call.body
    key = order_key(call.mchid, body.get("out_trade_no", ""))
    if "transaction_id" in body:
        key = state.by_transaction.get(body["transaction_id"], "")
    order = state.orders.get(key)
    if order is None or order.mchid != call.mchid:
        raise ApiError("RESOURCE_NOT_EXISTS", "订单不存在")
    return order


def _check(call: Call, order: Order) -> None:
    limits = call.engine.state.limits
    amount = call.body["amount"]
    now = call.engine.now_ms()
    if not order.is_paid:
        raise ApiError("INVALID_REQUEST", "订单状态不可退款")
    if amount["total"] != order.total_fen:
        raise ApiError("INVALID_REQUEST", "订单金额或退款金额与之前请求不一致")
    if call.engine.refunded_fen(order) + amount["refund"] > order.total_fen:
        raise ApiError("INVALID_REQUEST", "申请退款金额大于订单可退金额")
    if now - order.success_ms > limits.refund_days * DAY_MS:
        raise ApiError("INVALID_REQUEST", "订单已超过退款期限")
    if len(order.refund_nos) >= limits.max_refunds:
        raise ApiError("INVALID_REQUEST", "部分退款次数超过上限")
    if order.last_refund_ms and now - order.last_refund_ms < limits.refund_min_gap_s * 1000:
        raise ApiError("FREQUENCY_LIMITED", "同一笔订单的多次退款需间隔 1 分钟")


def _refuse_first(call: Call, rule: RefundRule, key: str) -> None:
    """Scenarios that fail the first n calls without accepting anything."""
    if rule.name in ("not_enough", "syserr_not") and call.engine.state.count(f"refund:{key}") <= rule.number:
        raise ApiError("NOT_ENOUGH" if rule.name == "not_enough" else "SYSTEM_ERROR")


_PLANNED = {"abnormal": RefundState.ABNORMAL, "closed": RefundState.CLOSED}


def _accept(call: Call, order: Order, digest: str, rule: RefundRule) -> Refund:
    body = call.body
    now = call.engine.now_ms()
    day = call.engine.state.clock.now().strftime("%Y%m%d")
    refund = Refund(
        mchid=call.mchid,
        out_refund_no=body["out_refund_no"],
        refund_id=f"503000{day}{call.engine.state.number():014d}",
        out_trade_no=order.out_trade_no,
        transaction_id=order.transaction_id,
        fingerprint=digest,
        refund_fen=body["amount"]["refund"],
        payer_refund_fen=call.engine.payer_share(order, body["amount"]["refund"]),
        created_ms=now,
        reason=body.get("reason", ""),
        notify_url=body.get("notify_url", ""),
        funds_account=body.get("funds_account", "AVAILABLE"),
        planned=_PLANNED.get(rule.name, RefundState.SUCCESS).value,
        duplicate_notice=rule.name == "dupnotify",
    )
    settle_s = rule.number if rule.name == "slow" else call.engine.state.limits.refund_settle_s
    call.engine.accept_refund(order, refund, settle_s)
    return refund


def _digest(body: dict[str, Any]) -> str:
    """Parameters that must stay the same for a repeated number.

    The address of the notification may change.
    """
    return fingerprint({name: value for name, value in body.items() if name != "notify_url"})


def create_refund(call: Call) -> Answer:
    """POST /v3/refund/domestic/refunds"""
    if "transaction_id" not in call.body and "out_trade_no" not in call.body:
        raise ApiError("PARAM_ERROR", "transaction_id 与 out_trade_no 至少填一个")
    digest = _digest(call.body)
    order = _order_of(call)
    known = call.engine.state.refunds.get(order_key(call.mchid, call.body["out_refund_no"]))
    if known is not None:
        if known.fingerprint != digest:
            raise ApiError("INVALID_REQUEST", "订单金额或退款金额与之前请求不一致，请核实后再试")
        return Answer(payload=payloads.refund(known, order))
    _check(call, order)
    rule = refund_rule(call.body.get("reason", ""))
    _refuse_first(call, rule, order_key(call.mchid, call.body["out_refund_no"]))
    refund = _accept(call, order, digest, rule)
    if rule.name == "syserr_done":
        return error_answer("SYSTEM_ERROR")
    mangle = Mangle.LOST if rule.name == "lost" else Mangle.NONE
    return Answer(payload=payloads.refund(refund, order), mangle=mangle)


def _answer(call: Call, refund: Refund) -> Answer:
    return Answer(
        payload=payloads.refund(
            refund, call.engine.state.orders[order_key(refund.mchid, refund.out_trade_no)]
        )
    )


def query_refund(call: Call) -> Answer:
    """GET /v3/refund/domestic/refunds/{out_refund_no}"""
    refund = call.engine.state.refunds.get(order_key(call.mchid, call.params["no"]))
    if refund is None:
        raise ApiError("RESOURCE_NOT_EXISTS", "退款单不存在")
    return _answer(call, refund)


def apply_abnormal(call: Call) -> Answer:
    """POST /v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund:

    ABNORMAL -> PROCESSING -> SUCCESS.
    """
    state = call.engine.state
    refund = state.refunds.get(state.refund_ids.get(call.params["refund_id"], ""))
    if refund is None or refund.mchid != call.mchid:
        raise ApiError("RESOURCE_NOT_EXISTS", "退款单不存在")
    if refund.out_refund_no != call.body["out_refund_no"]:
        raise ApiError("INVALID_REQUEST", "商户退款单号与退款单不一致")
    if refund.refund_state is RefundState.ABNORMAL:
        call.engine.settle_refund(refund, RefundState.PROCESSING)
        due = call.engine.now_ms() + state.limits.refund_settle_s * 1000
        state.schedule("refund", refund.key, due, RefundState.SUCCESS.value)
    elif refund.refund_state is not RefundState.PROCESSING:
        raise ApiError("INVALID_REQUEST", "退款单状态不为退款异常")
    return _answer(call, refund)
