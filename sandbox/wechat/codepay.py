"""Pay-by-code 付款码: the payer shows a code, the merchant charges it, and may have to reverse.

One code belongs to one order and lives once; the state machine is richer than that of prepaid orders
(`rules.py` holds
the scenarios as data).
"""

from __future__ import annotations

import hashlib

from sandbox.wechat import payloads
from sandbox.wechat.calls import Answer, Call, error_answer
from sandbox.wechat.engine import DAY_MS
from sandbox.wechat.model import Order
from sandbox.wechat.orders import new_order, refuse_reentry
from sandbox.wechat.rules import CodeScenario, code_scenario
from sandbox.wechat.states import CODEPAY_REPAID, ApiError, Product, TradeState


def _openid(auth_code: str) -> str:
    return "oCode" + hashlib.sha256(auth_code.encode()).hexdigest()[:23]


def _reenter(known: Order, fresh: Order) -> None:
    if known.trade_state is TradeState.SUCCESS and known.fingerprint == fresh.fingerprint:
        raise ApiError(CODEPAY_REPAID.code)
    refuse_reentry(known, fresh)


def create_codepay(call: Call) -> Answer:
    """POST /v3/pay/transactions/codepay: 200 with the transaction, 202 USERPAYING, or an error."""
    state = call.engine.state
    auth_code = call.body["payer"]["auth_code"]
    scenario = code_scenario(auth_code, call.headers.get("wechatpay-negative-test", ""))
    fresh = new_order(call, Product.MICROPAY)
    known = state.order(call.mchid, fresh.out_trade_no)
    if known is not None:
        _reenter(known, fresh)
    store_info = call.body["scene_info"]["store_info"]
    if not (store_info.get("id") or store_info.get("out_id")):
        raise ApiError("PARAM_ERROR", "门店信息 id 与 out_id 至少填一个")
    if state.value(f"auth_code:{auth_code}"):
        raise ApiError("AUTH_CODE_INVALID", "付款码已使用，请用户刷新后再试")
    if scenario.times and state.count(f"scenario:{fresh.key}") <= scenario.times:
        return error_answer(scenario.error)
    if scenario.state is None:
        return error_answer(scenario.error)
    state.set_value(f"auth_code:{auth_code}", {"key": fresh.key})
    _begin(call, fresh, auth_code, scenario)
    if scenario.error and not scenario.times:
        return error_answer(scenario.error, scenario.mangle)
    return Answer(payload=payloads.transaction(fresh), mangle=scenario.mangle)


def _begin(call: Call, order: Order, auth_code: str, scenario: CodeScenario) -> None:
    """Store the order in the state the scenario wants and plan what follows."""
    engine = call.engine
    now = engine.now_ms()
    begins = TradeState.USERPAYING if scenario.state is TradeState.PAYERROR else scenario.state
    order.auth_code, order.openid = auth_code, _openid(auth_code)
    order.visible_ms = now + scenario.hidden_s * 1000 if scenario.hidden_s else 0
    order.reverse_failures = scenario.reverse_failures
    order.pays_on_reverse = scenario.pays_on_reverse
    order.coupon = scenario.coupon
    order.lost_queries = scenario.lost_queries
    order.state = TradeState.USERPAYING.value
    order.history = [[order.state, now]]
    engine.state.touch_order(order)
    engine.state.event("order.created", order.out_trade_no, product=order.product, total_fen=order.total_fen)
    if scenario.state is TradeState.PAYERROR:
        engine.fail_payment(order)
    elif begins is TradeState.SUCCESS:
        engine.pay(order, order.openid)
    elif scenario.ends is not None:
        engine.state.schedule("codepay", order.key, now + scenario.after_s * 1000, scenario.ends.value)


def _check_reversible(call: Call, order: Order) -> None:
    limits = call.engine.state.limits
    age_ms = call.engine.now_ms() - order.created_ms
    if not order.is_codepay:
        raise ApiError("INVALID_REQUEST", "仅付款码支付的订单可撤销")
    if order.trade_state is TradeState.REFUND:
        raise ApiError("TRADE_ERROR", "订单已发生退款，不能撤销")
    if age_ms > limits.reverse_days * DAY_MS:
        raise ApiError("INVALID_REQUEST", "订单已超过可撤销的期限")
    if age_ms < limits.reverse_min_age_s * 1000 and order.trade_state is not TradeState.REVOKED:
        raise ApiError("INVALID_REQUEST", f"支付后 {limits.reverse_min_age_s} 秒内不可撤销")


def reverse(call: Call) -> Answer:
    """POST /v3/pay/transactions/out-trade-no/{n}/reverse:

    Close the unpaid, give back the paid; repeatable.
    """
    order = call.order(call.params["otn"])
    _check_reversible(call, order)
    if order.reverse_failures:
        if order.reverse_failures > 0:
            order.reverse_failures -= 1
        call.engine.state.touch_order(order)
        raise ApiError("SYSTEM_ERROR")
    if order.pays_on_reverse and order.trade_state is TradeState.USERPAYING:
        call.engine.pay(order, order.openid)
    if order.trade_state is not TradeState.REVOKED:
        call.engine.revoke(order)
    return Answer(payload={"appid": order.appid, "mchid": order.mchid, "out_trade_no": order.out_trade_no})
