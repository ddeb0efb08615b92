"""Fault rules, chaos and the rest of the admin API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.wechat.admin import Admin
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.merchant import Keys, Merchant, Receiver, code

Json = dict[str, Any]


@pytest.fixture
def admin(world: World) -> Admin:
    return Admin(world)


def ask(admin: Admin, method: str, path: str, body: Json | None = None, status: int = 200) -> Json:
    raw = b"" if body is None else json.dumps(body).encode()
    got, answer = admin.handle(method, f"/_sandbox/{path}", raw)
    assert got == status, answer
    return answer


def test_clock(admin: Admin, world: World) -> None:
    before = ask(admin, "GET", "clock")["now_ms"]
    assert ask(admin, "POST", "clock", {"advance_s": 60})["now_ms"] == before + 60_000
    assert ask(admin, "POST", "clock", {"now_ms": before + 120_000})["now_ms"] == before + 120_000
    ask(admin, "POST", "clock", {"advance_s": -1}, 400)
    ask(admin, "POST", "clock", {"now_ms": before}, 400)
    ask(admin, "POST", "clock", {}, 400)
    ask(admin, "POST", "clock", {"advance_s": "1"}, 400)
    ask(admin, "POST", "clock", {"freeze": True})
    assert ask(admin, "GET", "clock")["signature_s"] == before // 1000  # signatures keep their own time


def test_advance_reports_what_happened(admin: Admin, merchant: Merchant) -> None:
    merchant.jsapi("ADMIN00001", "oDriver_late30")
    kinds = [event["kind"] for event in ask(admin, "POST", "clock", {"advance_s": 30})["events"]]
    assert kinds == ["order.paid", "notify.planned", "notify.tried"]


def test_orders_and_the_phone(admin: Admin, merchant: Merchant) -> None:
    code_url = json.loads(merchant.native("ADMIN00002").body)["code_url"]
    assert ask(admin, "POST", "orders/ADMIN00002/scan")["total_fen"] == 10_000
    assert ask(admin, "POST", "phone/scan", {"code_url": code_url})["out_trade_no"] == "ADMIN00002"
    paid = ask(admin, "POST", "phone/pay", {"code_url": code_url, "openid": "oA"})
    assert (paid["result"], paid["trade_state"]) == ("paid", "SUCCESS")
    assert ask(admin, "POST", "phone/pay", {"code_url": code_url}, 200)["result"] == "paid"
    ask(admin, "POST", "phone/pay", {"code_url": code_url, "openid": "oB"}, 409)
    ask(admin, "POST", "phone/pay", {}, 400)
    merchant.codepay("ADMIN00003", "0012")
    assert ask(admin, "POST", "orders/ADMIN00003/password")["trade_state"] == "SUCCESS"
    merchant.codepay("ADMIN00004", "0012")
    assert ask(admin, "POST", "orders/ADMIN00004/cancel")["trade_state"] == "PAYERROR"
    prepay_id = json.loads(merchant.jsapi("ADMIN00005").body)["prepay_id"]
    assert ask(admin, "POST", "orders/ADMIN00005/fail")["trade_state"] == "NOTPAY"
    ask(admin, "POST", "orders/ADMIN00005/scan", status=409)
    form = merchant.pay_form(prepay_id)
    ask(admin, "POST", "phone/confirm", {"prepay": form | {"paySign": "x"}}, 409)
    assert ask(admin, "POST", "phone/confirm", {"prepay": form}) == {"result": "paid"}
    assert ask(admin, "GET", "orders/ADMIN00005")["money"]["paid_fen"] == 10_000
    merchant.jsapi("ADMIN00006")
    assert ask(admin, "POST", "orders/ADMIN00006/pay", {})["trade_state"] == "SUCCESS"
    ask(admin, "GET", "orders/NOTHING", status=404)
    ask(admin, "GET", "nothing", status=404)


def test_ledger_state_journal_and_invariants(admin: Admin, merchant: Merchant, world: World) -> None:
    merchant.jsapi("ADMIN00007", "oD_ok", 500)
    merchant.jsapi("ADMIN00008", "oD_ok", 700)
    merchant.jsapi("OTHER00009", "oD")
    merchant.refund("ADMIN00008", "R1", 200, total=700)
    world.advance(1)
    book = ask(admin, "GET", "ledger?prefix=ADMIN")
    rows = {
        row["out_trade_no"]: (row["paid_fen"], row["refunded_fen"], row["net_fen"]) for row in book["orders"]
    }
    assert rows == {"ADMIN00007": (500, 0, 500), "ADMIN00008": (700, 200, 500)}
    assert book["totals"] == {"paid_fen": 1_200, "refunded_fen": 200, "in_transit_fen": 0, "net_fen": 1_000}
    one = ask(admin, "GET", "ledger/ADMIN00008")
    assert sum(move["fen"] for move in one["movements"]) == 0
    assert ask(admin, "GET", "invariants") == {"ok": True, "violations": []}
    assert ask(admin, "GET", "state")["orders"] == {"SUCCESS": 1, "REFUND": 1, "NOTPAY": 1}
    events = ask(admin, "GET", "journal?since=2&limit=1")["events"]
    assert [event["seq"] for event in events] == [3]
    assert ask(admin, "GET", "refunds/R1")["refund"]["state"] == "SUCCESS"
    assert ask(admin, "GET", "messages") == {"messages": []}
    ask(admin, "POST", "reset")
    assert ask(admin, "GET", "ledger")["orders"] == []


def test_refund_acts(admin: Admin, merchant: Merchant, world: World) -> None:
    world.state.limits.refund_min_gap_s = 0
    merchant.jsapi("ADMIN00010", "oD_ok")
    for number, act, state in (
        ("R1", "settle", "SUCCESS"),
        ("R2", "abnormal", "ABNORMAL"),
        ("R3", "close", "CLOSED"),
    ):
        merchant.refund("ADMIN00010", number, 100)
        assert ask(admin, "POST", f"refunds/{number}/{act}")["refund"]["state"] == state
    ask(admin, "POST", "refunds/R1/close", status=409)
    ask(admin, "POST", "refunds/R9/close", status=404)


def test_limits(admin: Admin, world: World) -> None:
    assert ask(admin, "POST", "limits", {"refund_settle_s": 300})["refund_settle_s"] == 300
    assert world.state.limits.refund_settle_s == 300
    ask(admin, "POST", "limits", {"nonsense": 1}, 400)


BEFORE_AND_AFTER: list[tuple[str, Json, str]] = [
    ("before", {"code": "SYSTEM_ERROR"}, "ORDER_NOT_EXIST"),
    ("before", {"html502": ""}, "ORDER_NOT_EXIST"),
    ("before", {"reset_conn": ""}, "ORDER_NOT_EXIST"),
    ("after", {"code": "SYSTEM_ERROR"}, "NOTPAY"),
    ("after", {"lost": ""}, "NOTPAY"),
    ("after", {"truncate": ""}, "NOTPAY"),
    ("after", {"badsig": ""}, "NOTPAY"),
    ("after", {"unsigned": ""}, "NOTPAY"),
    ("after", {"html502": ""}, "NOTPAY"),
]


@pytest.mark.parametrize(("phase", "action", "state"), BEFORE_AND_AFTER)
def test_faults_before_and_after(
    admin: Admin, merchant: Merchant, keys: Keys, phase: str, action: Json, state: str
) -> None:
    rule = {"match": {"path": "/jsapi$", "method": "POST"}, "phase": phase, "action": action, "times": 1}
    ask(admin, "POST", "faults", rule)
    reply = merchant.jsapi("ADMIN00011")
    spoilt = reply.lost or reply.reset or reply.status >= 500 or not keys.genuine(reply.headers, reply.body)
    assert spoilt
    assert merchant.state("ADMIN00011") == state
    good = merchant.jsapi("ADMIN00011")  # the rule is used up
    assert (good.status, keys.genuine(good.headers, good.body)) == (200, True)
    assert ask(admin, "GET", "faults")["faults"][0]["used"] == 1


def test_fault_matching_and_delay(admin: Admin, merchant: Merchant) -> None:
    ask(
        admin,
        "POST",
        "faults",
        {"match": {"otn": "ADMIN00012"}, "phase": "before", "action": {"delay_ms": 250}},
    )
    ask(
        admin,
        "POST",
        "faults",
        {"match": {"mchid": "1"}, "phase": "before", "action": {"code": "SYSTEM_ERROR"}},
    )
    assert merchant.jsapi("ADMIN00013").delay_ms == 0
    assert merchant.jsapi("ADMIN00012").delay_ms == 250
    ask(admin, "POST", "faults", {"phase": "before", "action": {"lost": ""}}, 400)
    ask(admin, "POST", "faults", {"match": {"colour": "red"}, "action": {"code": "SYSTEM_ERROR"}}, 400)
    ask(admin, "POST", "faults/clear")
    assert ask(admin, "GET", "faults") == {"faults": []}


@pytest.mark.parametrize(
    ("action", "deliveries"),
    [({"lost": ""}, 0), ({"duplicate": ""}, 3), ({"delay_ms": 5_000}, 0), ({"tamper": ""}, 1)],
)
def test_notification_faults(
    admin: Admin, merchant: Merchant, world: World, receiver: Receiver, action: Json, deliveries: int
) -> None:
    ask(admin, "POST", "faults", {"match": {"otn": "ADMIN00014"}, "phase": "notify", "action": action})
    merchant.jsapi("ADMIN00014", "oD_ok")
    assert world.couriers.drain(5)
    assert len(receiver.got) == deliveries
    world.advance(15)
    assert len(receiver.got) == {"lost": 0, "duplicate": 3, "delay_ms": 1, "tamper": 2}[next(iter(action))]


def test_notification_acts(admin: Admin, merchant: Merchant, world: World, receiver: Receiver) -> None:
    merchant.jsapi("ADMIN00015", "oD_lost")
    (notify,) = ask(admin, "GET", "notifies?status=dropped&otn=ADMIN00015")["notifies"]
    for act in ("resend", "duplicate", "tamper"):
        ask(admin, "POST", f"notifies/{notify['id']}/{act}")
        assert world.couriers.drain(5)
    assert receiver.genuine == [True, True, False]
    ask(admin, "POST", f"notifies/{notify['id']}/drop")
    world.advance(86_400)
    assert len(receiver.got) == 3
    ask(admin, "POST", "notifies/N99999999/drop", status=404)


def test_probe_wants_a_refusal(admin: Admin, receiver: Receiver) -> None:
    url = "https://jiazhu.example/api/notifications/wechat"
    assert ask(admin, "POST", "notifies/probe", {"url": url})["sound"]
    assert receiver.got[0][0]["Wechatpay-Signature"].startswith("WECHATPAY/SIGNTEST/")
    receiver.answers = [200]
    assert not ask(admin, "POST", "notifies/probe", {"url": url})["sound"]


def test_chaos_is_repeatable_and_keeps_the_books(admin: Admin, merchant: Merchant, world: World) -> None:
    rates = {
        "lost_response": 0.2,
        "sys_error": 0.2,
        "sys_error_done": 0.1,
        "reset_conn": 0.1,
        "dup_notify": 0.3,
    }
    runs = []
    for _ in range(2):
        ask(admin, "POST", "reset")
        ask(admin, "POST", "chaos", {**rates, "seed": 7})
        replies = [merchant.jsapi(f"CHAOS{n:05d}", "oD_ok") for n in range(40)]
        runs.append([(reply.status, reply.lost, reply.reset) for reply in replies])
    assert runs[0] == runs[1]
    assert {lost for _, lost, _ in runs[0]} == {True, False}
    assert {status for status, _, _ in runs[0]} >= {200, 500}
    ask(admin, "POST", "chaos", {"nonsense": 1}, 400)
    ask(admin, "POST", "chaos", {"slow_ms": [10, 10]})
    assert merchant.query("CHAOS00000").delay_ms == 10
    assert world.invariants() == []


def test_broken_json(admin: Admin) -> None:
    assert admin.handle("POST", "/_sandbox/faults", b"{")[0] == 400
    assert admin.handle("POST", "/_sandbox/faults", b"[]")[0] == 400


def test_fault_code_is_the_named_one(admin: Admin, merchant: Merchant) -> None:
    ask(admin, "POST", "faults", {"phase": "before", "action": {"code": "RATELIMIT_EXCEEDED"}})
    reply = merchant.query("ADMIN00016")
    assert (reply.status, code(reply)) == (429, "RATELIMIT_EXCEEDED")
