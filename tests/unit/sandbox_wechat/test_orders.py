"""Prepaid orders: schema, every state transition, every re-entry row, queries and closing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.wechat.clock import rfc3339
from sandbox.wechat.states import (
    ALLOWED_REFUND,
    ALLOWED_TRADE,
    REENTRY,
    IllegalMove,
    RefundState,
    TradeState,
    check_refund_move,
    check_trade_move,
)
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.merchant import PAY, Merchant, code, errno

DAY_S = 86_400


@pytest.mark.parametrize("old", list(TradeState))
@pytest.mark.parametrize("new", list(TradeState))
def test_trade_table(old: TradeState, new: TradeState) -> None:
    if new in ALLOWED_TRADE[old]:
        check_trade_move(old, new)
    else:
        with pytest.raises(IllegalMove):
            check_trade_move(old, new)


def test_money_never_leaves_a_final_state() -> None:
    assert not ALLOWED_TRADE[TradeState.CLOSED]
    assert not ALLOWED_TRADE[TradeState.REVOKED]
    assert TradeState.CLOSED not in ALLOWED_TRADE[TradeState.SUCCESS]


@pytest.mark.parametrize("old", list(RefundState))
@pytest.mark.parametrize("new", list(RefundState))
def test_refund_table(old: RefundState, new: RefundState) -> None:
    if new in ALLOWED_REFUND[old]:
        check_refund_move(old, new)
    else:
        with pytest.raises(IllegalMove):
            check_refund_move(old, new)


def test_reentry_table_has_no_hole() -> None:
    assert set(REENTRY) == {(state, same) for state in TradeState for same in (True, False)}


def test_jsapi_order_waits_for_the_phone(merchant: Merchant, world: World) -> None:
    prepay_id = json.loads(merchant.jsapi("ORD000001").body)["prepay_id"]
    assert prepay_id.startswith("wx")
    assert merchant.state("ORD000001") == "NOTPAY"
    assert world.phone.confirm(merchant.pay_form(prepay_id) | {"appId": world.material.appid}) == "paid"
    found = json.loads(merchant.query("ORD000001").body)
    assert found["trade_state"] == "SUCCESS"
    assert found["amount"] == {
        "total": 10_000,
        "currency": "CNY",
        "payer_total": 10_000,
        "payer_currency": "CNY",
    }
    assert found["payer"] == {"openid": "oDriver1"}
    assert (len(found["transaction_id"]), found["transaction_id"][:5]) == (28, "42000")
    assert (found["trade_type"], found["success_time"]) == ("JSAPI", rfc3339(world.clock.now_ms()))
    by_id = merchant.call("GET", f"{PAY}/id/{found['transaction_id']}?mchid={world.material.mchid}")
    assert json.loads(by_id.body) == found
    assert world.money("ORD000001").paid_fen == 10_000


def test_native_order_is_scanned_and_paid(merchant: Merchant, world: World) -> None:
    code_url = json.loads(merchant.native("ORD000002", 6_600).body)["code_url"]
    assert code_url.startswith("weixin://wxpay/bizpayurl?pr=")
    scanned = world.phone.scan(code_url)
    assert (scanned.out_trade_no, scanned.total_fen, scanned.description) == ("ORD000002", 6_600, "92号汽油")
    assert world.phone.pay(code_url=code_url, openid="oPasserBy") == "paid"
    found = json.loads(merchant.query("ORD000002").body)
    assert (found["trade_type"], found["payer"]["openid"]) == ("NATIVE", "oPasserBy")


def test_unknown_order(merchant: Merchant, world: World) -> None:
    reply = merchant.query("ORD404")
    assert (reply.status, code(reply), errno(reply)) == (404, "ORDER_NOT_EXIST", 268512771)
    by_id = merchant.call("GET", f"{PAY}/id/4200000000000000000000000000?mchid={world.material.mchid}")
    assert (by_id.status, code(by_id)) == (404, "ORDER_NOT_EXIST")
    assert code(merchant.close("ORD404404")) == "ORDER_NOT_EXIST"


BAD_BODIES: list[tuple[dict[str, Any], int]] = [
    ({"extra": 1}, 270924358),
    ({"amount": {"total": 0, "currency": "CNY"}}, 268435464),
    ({"amount": {"total": 1.5}}, 268435461),
    ({"amount": {"total": True}}, 268435461),
    ({"amount": {"total": "100"}}, 268435461),
    ({"amount": {"total": 1, "currency": "USD"}}, 268435461),
    ({"amount": {"total": 1, "tip": 1}}, 270924358),
    ({"payer": {}}, 268501013),
    ({"payer": {"openid": ""}}, 268435464),
    ({"out_trade_no": "short"}, 268435461),
    ({"out_trade_no": "x" * 33}, 268435464),
    ({"out_trade_no": "bad number"}, 268435461),
    ({"description": "油" * 128}, 268435464),
    ({"attach": "x" * 129}, 268435464),
    ({"notify_url": "https://jiazhu.example/n?x=1"}, 268435461),
    ({"notify_url": "not a url"}, 268435461),
    ({"time_expire": "2025-11-23 14:00:00"}, 268435461),
    ({"time_expire": "2025-11-23T14:00:00"}, 268435461),
    ({"support_fapiao": "yes"}, 268435461),
    ({"scene_info": {"device_id": "1"}}, 268435461),
    ({"settle_info": []}, 268435461),
    ({"detail": {"goods_detail": {}}}, 268435461),
]


@pytest.mark.parametrize(("change", "number"), BAD_BODIES)
def test_schema(merchant: Merchant, world: World, change: dict[str, Any], number: int) -> None:
    body = merchant.body("ORD000003", payer={"openid": "oDriver1"}) | change
    reply = merchant.call("POST", f"{PAY}/jsapi", body)
    assert (reply.status, code(reply), errno(reply)) == (400, "PARAM_ERROR", number)
    assert json.loads(reply.body)["detail"]["location"] == "body"
    assert not world.state.orders


@pytest.mark.parametrize(
    "missing", ["appid", "mchid", "description", "out_trade_no", "notify_url", "amount", "payer"]
)
def test_required_fields(merchant: Merchant, missing: str) -> None:
    body = merchant.body("ORD000004", payer={"openid": "oDriver1"})
    del body[missing]
    assert code(merchant.call("POST", f"{PAY}/jsapi", body)) == "PARAM_ERROR"


def test_body_must_be_json_object(merchant: Merchant) -> None:
    for raw in (b"", b"{", b"[]", b'"x"'):
        assert code(merchant.raw_call("POST", f"{PAY}/jsapi", raw)) == "PARAM_ERROR"


def test_reentry_notpay_same_gives_a_new_prepay(merchant: Merchant, world: World) -> None:
    first, second = (json.loads(merchant.jsapi("ORD000005").body)["prepay_id"] for _ in range(2))
    assert first != second
    assert len(world.state.orders) == 1
    world.phone.pay(prepay_id=first)
    assert merchant.state("ORD000005") == "SUCCESS"


@pytest.mark.parametrize(
    "change",
    [{"total": 10_001}, {"attach": "x"}, {"openid": "oOther"}, {"time_expire": "2025-11-24T14:00:00+08:00"}],
)
def test_reentry_notpay_different(merchant: Merchant, change: dict[str, Any]) -> None:
    merchant.jsapi("ORD000006")
    reply = merchant.jsapi("ORD000006", **change)
    assert (reply.status, code(reply), errno(reply)) == (400, "INVALID_REQUEST", 268498688)


def test_reentry_by_another_product_differs(merchant: Merchant) -> None:
    merchant.jsapi("ORD000007")
    assert errno(merchant.native("ORD000007")) == 268498688


@pytest.mark.parametrize("total", [10_000, 9_999])
def test_reentry_paid_refunded_and_closed(merchant: Merchant, world: World, total: int) -> None:
    merchant.jsapi("ORD000008", "oDriver_ok")
    assert code(merchant.jsapi("ORD000008", "oDriver_ok", total)) == "OUT_TRADE_NO_USED"
    merchant.refund("ORD000008", "R1", 100)
    assert merchant.state("ORD000008") == "REFUND"
    reply = merchant.jsapi("ORD000008", "oDriver_ok", total)
    assert (reply.status, code(reply)) == (403, "OUT_TRADE_NO_USED")
    merchant.jsapi("ORD000009")
    assert merchant.close("ORD000009").status == 204
    reply = merchant.jsapi("ORD000009", total=total)
    assert (reply.status, code(reply), errno(reply)) == (400, "ORDER_CLOSED", 268447914)


def test_close_is_reentrant_and_final(merchant: Merchant, world: World) -> None:
    prepay_id = json.loads(merchant.jsapi("ORD000010").body)["prepay_id"]
    assert [merchant.close("ORD000010").status for _ in range(2)] == [204, 204]
    assert merchant.state("ORD000010") == "CLOSED"
    with pytest.raises(RuntimeError, match="订单已关闭"):
        world.phone.pay(prepay_id=prepay_id)


def test_close_of_a_paid_order(merchant: Merchant) -> None:
    merchant.jsapi("ORD000011", "oDriver_ok")
    reply = merchant.close("ORD000011")
    assert (reply.status, code(reply)) == (400, "ORDER_PAID")
    merchant.refund("ORD000011", "R1", 1)
    assert code(merchant.close("ORD000011")) == "ORDER_PAID"


def test_close_of_a_codepay_order_is_refused(merchant: Merchant) -> None:
    merchant.codepay("ORD000012")
    assert errno(merchant.close("ORD000012")) == 268449641


def test_unpaid_order_closes_after_seven_days(merchant: Merchant, world: World) -> None:
    merchant.jsapi("ORD000013")
    world.advance(7 * DAY_S - 1)
    assert merchant.state("ORD000013") == "NOTPAY"
    world.advance(1)
    assert merchant.state("ORD000013") == "CLOSED"


def test_expired_prepay_stays_notpay(merchant: Merchant, world: World) -> None:
    expire = rfc3339(world.clock.now_ms() + 5_000)  # less than a minute counts as a minute
    prepay_id = json.loads(merchant.jsapi("ORD000014", time_expire=expire).body)["prepay_id"]
    world.advance(59)
    other = json.loads(merchant.jsapi("ORD000015").body)["prepay_id"]
    world.advance(1)
    with pytest.raises(RuntimeError, match="过期"):
        world.phone.pay(prepay_id=prepay_id)
    assert merchant.state("ORD000014") == "NOTPAY"
    world.advance(7_199)
    with pytest.raises(RuntimeError, match="过期"):
        world.phone.pay(prepay_id=other)
    again = json.loads(merchant.jsapi("ORD000015").body)["prepay_id"]
    with pytest.raises(RuntimeError, match="订单已过期"):
        world.phone.pay(prepay_id=again)


def test_rate_limit(merchant: Merchant, world: World) -> None:
    world.state.limits.create_per_s = 2
    assert [merchant.jsapi(f"ORD10000{n}").status for n in range(3)] == [200, 200, 429]
    assert code(merchant.jsapi("ORD100003")) == "FREQUENCY_LIMITED"


def test_number_in_the_path_is_decoded(merchant: Merchant) -> None:
    merchant.jsapi("A|B*C-D_1")
    path = f"{PAY}/out-trade-no/A%7CB%2AC-D_1?mchid={merchant.keys.material.mchid}"
    assert json.loads(merchant.call("GET", path).body)["out_trade_no"] == "A|B*C-D_1"
