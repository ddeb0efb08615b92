"""Refunds: idempotent by number, never more than was paid, every outcome with its money."""

from __future__ import annotations

import json

import pytest

from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.merchant import REFUNDS, Keys, Merchant, Receiver, code

DAY_S = 86_400


@pytest.fixture
def paid(merchant: Merchant) -> str:
    merchant.jsapi("REF0000001", "oDriver_lost")
    return "REF0000001"


def test_accepted_then_succeeds_with_a_notification(
    merchant: Merchant, world: World, receiver: Receiver, paid: str
) -> None:
    body = json.loads(merchant.refund(paid, "R1", 3_000).body)
    assert (body["status"], body["amount"]["refund"], body["out_trade_no"]) == ("PROCESSING", 3_000, paid)
    assert merchant.state(paid) == "REFUND"
    money = world.money(paid)
    assert (money.refunded_fen, money.in_transit_fen) == (0, 3_000)
    world.advance(1)
    found = merchant.query_refund("R1")
    assert (found["status"], "success_time" in found) == ("SUCCESS", True)
    assert (world.money(paid).refunded_fen, world.money(paid).net_fen) == (3_000, 7_000)
    assert receiver.events == ["REFUND.SUCCESS"]
    assert receiver.opened()["refund_status"] == "SUCCESS"
    assert json.loads(receiver.got[0][1])["resource"]["associated_data"] == "refund"


def test_same_number_is_idempotent(merchant: Merchant, world: World, paid: str) -> None:
    first, second = (json.loads(merchant.refund(paid, "R1", 3_000).body) for _ in range(2))
    assert first == second
    world.advance(1)
    assert json.loads(merchant.refund(paid, "R1", 3_000).body)["status"] == "SUCCESS"
    assert world.money(paid).refunded_fen == 3_000


@pytest.mark.parametrize("fen", [2_999, 3_001])
def test_same_number_with_other_parameters(merchant: Merchant, world: World, paid: str, fen: int) -> None:
    merchant.refund(paid, "R1", 3_000)
    reply = merchant.refund(paid, "R1", fen)
    assert (reply.status, code(reply)) == (400, "INVALID_REQUEST")
    assert world.money(paid).in_transit_fen == 3_000


def test_sum_never_exceeds_the_order(merchant: Merchant, world: World, paid: str) -> None:
    merchant.refund(paid, "R1", 6_000)
    world.advance(60)
    assert code(merchant.refund(paid, "R2", 4_001)) == "INVALID_REQUEST"
    assert merchant.refund(paid, "R3", 4_000).status == 200
    world.advance(60)
    assert code(merchant.refund(paid, "R4", 1)) == "INVALID_REQUEST"
    assert world.money(paid).net_fen == 0


def test_wrong_total_unknown_order_and_unpaid_order(merchant: Merchant, paid: str) -> None:
    assert code(merchant.refund(paid, "R1", 100, total=9_999)) == "INVALID_REQUEST"
    reply = merchant.refund("REF404", "R1", 100)
    assert (reply.status, code(reply)) == (404, "RESOURCE_NOT_EXISTS")
    merchant.jsapi("REF0000002")
    assert code(merchant.refund("REF0000002", "R1", 100)) == "INVALID_REQUEST"
    reply = merchant.call("GET", f"{REFUNDS}/R1")
    assert (reply.status, code(reply)) == (404, "RESOURCE_NOT_EXISTS")


def test_by_transaction_id(merchant: Merchant, world: World, paid: str) -> None:
    order = world.order(paid)
    assert order is not None
    body = {
        "transaction_id": order.transaction_id,
        "out_refund_no": "R1",
        "amount": {"refund": 1, "total": 10_000, "currency": "CNY"},
    }
    assert json.loads(merchant.call("POST", REFUNDS, body).body)["out_trade_no"] == paid
    del body["transaction_id"]
    assert code(merchant.call("POST", REFUNDS, body)) == "PARAM_ERROR"


def test_a_minute_between_and_a_year_at_most(merchant: Merchant, world: World, paid: str) -> None:
    merchant.refund(paid, "R1", 1)
    world.advance(59)
    reply = merchant.refund(paid, "R2", 1)
    assert (reply.status, code(reply)) == (429, "FREQUENCY_LIMITED")
    world.advance(1)
    assert merchant.refund(paid, "R2", 1).status == 200
    world.advance(365 * DAY_S)
    assert code(merchant.refund(paid, "R3", 1)) == "INVALID_REQUEST"


def test_fifty_refunds_at_most(merchant: Merchant, world: World, paid: str) -> None:
    world.state.limits.refund_min_gap_s = 0
    statuses = [merchant.refund(paid, f"R{n}", 1).status for n in range(51)]
    assert statuses == [200] * 50 + [400]


def test_abnormal_then_applied(merchant: Merchant, world: World, receiver: Receiver, paid: str) -> None:
    refund_id = json.loads(merchant.refund(paid, "R1", 3_000, reason="[SIM:abnormal] 卡已注销").body)[
        "refund_id"
    ]
    world.advance(1)
    assert merchant.query_refund("R1")["status"] == "ABNORMAL"
    assert receiver.events == ["REFUND.ABNORMAL"]
    assert (world.money(paid).refunded_fen, world.money(paid).in_transit_fen) == (0, 3_000)
    path = f"{REFUNDS}/{refund_id}/apply-abnormal-refund"
    body = {"out_refund_no": "R1", "type": "MERCHANT_BANK_CARD"}
    assert json.loads(merchant.call("POST", path, body).body)["status"] == "PROCESSING"
    world.advance(1)
    assert merchant.query_refund("R1")["status"] == "SUCCESS"
    assert world.money(paid).refunded_fen == 3_000
    assert code(merchant.call("POST", path, body)) == "INVALID_REQUEST"
    assert code(merchant.call("POST", path, body | {"out_refund_no": "R2"})) == "INVALID_REQUEST"


def test_closed_gives_the_money_back_to_the_merchant(
    merchant: Merchant, world: World, receiver: Receiver, paid: str
) -> None:
    merchant.refund(paid, "R1", 10_000, reason="[SIM:closed]")
    world.advance(60)
    assert merchant.query_refund("R1")["status"] == "CLOSED"
    assert receiver.events == ["REFUND.CLOSED"]
    assert (world.money(paid).refunded_fen, world.money(paid).in_transit_fen) == (0, 0)
    assert json.loads(merchant.refund(paid, "R1", 10_000, reason="[SIM:closed]").body)["status"] == "CLOSED"
    assert merchant.refund(paid, "R2", 10_000).status == 200
    world.advance(1)
    assert world.money(paid).net_fen == 0


def test_slow(merchant: Merchant, world: World, paid: str) -> None:
    merchant.refund(paid, "R1", 1, reason="[SIM:slow=3600]")
    world.advance(3_599)
    assert merchant.query_refund("R1")["status"] == "PROCESSING"
    world.advance(1)
    assert merchant.query_refund("R1")["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("reason", "statuses", "word"),
    [
        ("[SIM:not_enough]", [403, 200], "NOT_ENOUGH"),
        ("[SIM:not_enough=2]", [403, 403, 200], "NOT_ENOUGH"),
        ("[SIM:syserr_not]", [500, 200], "SYSTEM_ERROR"),
        ("[SIM:syserr_done]", [500, 200], "SYSTEM_ERROR"),
    ],
)
def test_errors_that_want_the_same_number_again(
    merchant: Merchant, world: World, paid: str, reason: str, statuses: list[int], word: str
) -> None:
    replies = [merchant.refund(paid, "R1", 5_000, reason=reason) for _ in statuses]
    assert [reply.status for reply in replies] == statuses
    assert code(replies[0]) == word
    world.advance(1)
    assert world.money(paid).refunded_fen == 5_000


def test_refused_refund_does_not_exist_but_accepted_one_does(merchant: Merchant, paid: str) -> None:
    merchant.refund(paid, "R1", 1, reason="[SIM:syserr_not]")
    assert merchant.query_refund("R1")["code"] == "RESOURCE_NOT_EXISTS"
    merchant.refund(paid, "R2", 1, reason="[SIM:syserr_done]")
    assert merchant.query_refund("R2")["status"] == "PROCESSING"


def test_lost_answer_and_duplicate_notice(
    merchant: Merchant, world: World, receiver: Receiver, paid: str
) -> None:
    assert merchant.refund(paid, "R1", 1, reason="[SIM:lost]").lost
    assert not merchant.refund(paid, "R1", 1, reason="[SIM:lost]").lost
    world.advance(60)
    merchant.refund(paid, "R2", 1, reason="[SIM:dupnotify]")
    world.advance(1)
    assert receiver.events == ["REFUND.SUCCESS"] * 4


def test_coupon_shares_add_up(merchant: Merchant, world: World, keys: Keys) -> None:
    world.state.limits.refund_min_gap_s = 0
    merchant.jsapi("REF0000003", "oDriver_coupon", 1_000)
    shares = [
        json.loads(merchant.refund("REF0000003", f"C{n}", fen, total=1_000).body)["amount"]["payer_refund"]
        for n, fen in enumerate((333, 333, 334))
    ]
    assert sum(shares) == 500
    world.advance(1)
    assert world.state.ledger.balances["coupons"] == 0
    assert world.state.ledger.balances["payer:oDriver_coupon"] == 0
    assert world.state.ledger.balances[f"merchant:{keys.material.mchid}"] == 0


@pytest.mark.parametrize("reason", ["", "[SIM:slow=3600]", "[SIM:abnormal]"])
def test_refunds_under_way_count_into_the_sum(
    merchant: Merchant, world: World, paid: str, reason: str
) -> None:
    world.state.limits.refund_min_gap_s = 0
    merchant.refund(paid, "R1", 6_000, reason=reason)
    assert code(merchant.refund(paid, "R2", 4_001)) == "INVALID_REQUEST"
    world.advance(1)
    assert code(merchant.refund(paid, "R2", 4_001)) == "INVALID_REQUEST"
    assert merchant.refund(paid, "R2", 4_000).status == 200
