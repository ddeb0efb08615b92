"""Pay-by-code: every scenario of the last four digits, re-entry, reversing."""

from __future__ import annotations

import json

import pytest

from sandbox.wechat.rules import CODE_SCENARIOS, code_scenario
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.merchant import PAY, Keys, Merchant, code, errno

# last four digits -> (answer: HTTP and code or trade_state, trade state at the query at once, then after 60 s)
TABLE: dict[str, tuple[int, str, str, str]] = {
    "0000": (200, "SUCCESS", "SUCCESS", "SUCCESS"),
    "0001": (403, "NOT_ENOUGH", "PAYERROR", "PAYERROR"),
    "0002": (403, "AUTH_CODE_EXPIRE", "ORDER_NOT_EXIST", "ORDER_NOT_EXIST"),
    "0003": (400, "AUTH_CODE_INVALID", "ORDER_NOT_EXIST", "ORDER_NOT_EXIST"),
    "0010": (202, "USERPAYING", "USERPAYING", "SUCCESS"),
    "0011": (202, "USERPAYING", "USERPAYING", "PAYERROR"),
    "0012": (202, "USERPAYING", "USERPAYING", "REVOKED"),
    "0013": (202, "USERPAYING", "USERPAYING", "USERPAYING"),
    "0020": (500, "SYSTEM_ERROR", "SUCCESS", "SUCCESS"),
    "0021": (500, "SYSTEM_ERROR", "ORDER_NOT_EXIST", "ORDER_NOT_EXIST"),
    "0022": (0, "lost", "SUCCESS", "SUCCESS"),
    "0023": (0, "lost", "ORDER_NOT_EXIST", "SUCCESS"),
    "0024": (500, "BANK_ERROR", "USERPAYING", "SUCCESS"),
    "0030": (200, "SUCCESS", "SUCCESS", "SUCCESS"),
    "0031": (200, "SUCCESS", "SUCCESS", "SUCCESS"),
    "0040": (403, "RULE_LIMIT", "PAYERROR", "PAYERROR"),
    "0041": (429, "FREQUENCY_LIMITED", "ORDER_NOT_EXIST", "ORDER_NOT_EXIST"),
    "0050": (200, "SUCCESS", "SUCCESS", "SUCCESS"),
    "0060": (200, "SUCCESS", "SUCCESS", "SUCCESS"),
    "0061": (200, "SUCCESS", "SUCCESS", "SUCCESS"),
    "0062": (200, "truncated", "SUCCESS", "SUCCESS"),
    "0063": (502, "html", "SUCCESS", "SUCCESS"),
    "9999": (200, "SUCCESS", "SUCCESS", "SUCCESS"),
}


def test_table_covers_every_magic_code() -> None:
    assert set(CODE_SCENARIOS) <= set(TABLE)


@pytest.mark.parametrize("last4", sorted(TABLE))
def test_scenario(merchant: Merchant, world: World, keys: Keys, last4: str) -> None:
    http, word, at_once, later = TABLE[last4]
    otn = f"CODE00{last4}"
    reply = merchant.codepay(otn, last4)
    if word == "lost":
        assert reply.lost
    elif word == "html":
        assert reply.status == http
        assert reply.body.startswith(b"<html")
    elif word == "truncated":
        with pytest.raises(ValueError):
            json.loads(reply.body)
    else:
        body = json.loads(reply.body)
        assert (reply.status, body.get("trade_state") or body["code"]) == (http, word)
    assert merchant.state(otn) == at_once
    world.advance(60)
    assert merchant.state(otn) == later
    assert keys.genuine(reply.headers, reply.body) == (last4 not in ("0060", "0061", "0062", "0063"))
    assert ("Wechatpay-Signature" in reply.headers) == (last4 not in ("0061", "0063"))


@pytest.mark.parametrize(
    ("last4", "seconds", "ends"),
    [
        ("0010", 10, "SUCCESS"),
        ("0011", 10, "PAYERROR"),
        ("0012", 45, "REVOKED"),
        ("0024", 20, "SUCCESS"),
        ("0023", 8, "SUCCESS"),
    ],
)
def test_scenario_changes_at_its_second(
    merchant: Merchant, world: World, last4: str, seconds: int, ends: str
) -> None:
    merchant.codepay("CODETIME", last4)
    before = merchant.state("CODETIME")
    world.advance(seconds - 1)
    assert merchant.state("CODETIME") == before
    world.advance(1)
    assert merchant.state("CODETIME") == ends


def test_answer_is_the_full_transaction(merchant: Merchant) -> None:
    body = json.loads(merchant.codepay("CODEFULL").body)
    assert body == json.loads(merchant.query("CODEFULL").body)
    assert body["trade_type"] == "MICROPAY"


def test_codepay_is_never_notified(merchant: Merchant, world: World) -> None:
    merchant.codepay("CODENONE")
    world.advance(3600)
    assert not world.state.notifies


@pytest.mark.parametrize(
    "auth_code", ["", "13", "13000000000000000x", "990000000000000000", "1300000000000000001"]
)
def test_malformed_code(auth_code: str) -> None:
    assert code_scenario(auth_code).error == "AUTH_CODE_INVALID"


@pytest.mark.parametrize("missing", ["notify_url", "time_expire"])
def test_codepay_knows_no_notify_url_and_no_expiry(merchant: Merchant, missing: str) -> None:
    body = merchant.code_body("CODEXTRA", "130000000000010000") | {missing: "https://jiazhu.example/n"}
    assert errno(merchant.call("POST", f"{PAY}/codepay", body)) == 270924358


def test_store_is_required(merchant: Merchant) -> None:
    body = merchant.code_body("CODESTORE", "130000000000010000")
    del body["scene_info"]
    assert code(merchant.call("POST", f"{PAY}/codepay", body)) == "PARAM_ERROR"
    body["scene_info"] = {"store_info": {"name": "一号站"}}
    assert code(merchant.call("POST", f"{PAY}/codepay", body)) == "PARAM_ERROR"


def test_one_code_one_order(merchant: Merchant) -> None:
    one = "130000000000020000"
    assert merchant.call("POST", f"{PAY}/codepay", merchant.code_body("CODEONE1", one)).status == 200
    reply = merchant.call("POST", f"{PAY}/codepay", merchant.code_body("CODEONE2", one))
    assert (reply.status, code(reply)) == (400, "AUTH_CODE_INVALID")
    assert merchant.state("CODEONE2") == "ORDER_NOT_EXIST"


def test_reentry(merchant: Merchant, world: World) -> None:
    world.state.limits.reverse_min_age_s = 0
    merchant.codepay("CODERE01")
    assert code(merchant.codepay("CODERE01")) == "ORDER_PAID"
    assert code(merchant.codepay("CODERE01", total=1)) == "OUT_TRADE_NO_USED"
    merchant.reverse("CODERE01")
    assert code(merchant.codepay("CODERE01")) == "ORDER_REVERSED"
    merchant.codepay("CODERE02", "0012")
    again = merchant.codepay("CODERE02", "0012")
    assert (again.status, code(again)) == (202, "USERPAYING")
    assert errno(merchant.codepay("CODERE02", "0012", total=1)) == 268498688
    merchant.codepay("CODERE03", "0001")
    assert code(merchant.codepay("CODERE03", "0001")) == "OUT_TRADE_NO_USED"
    merchant.jsapi("CODERE04")
    assert errno(merchant.codepay("CODERE04")) == 268498688


def test_rate_limited_twice_then_paid(merchant: Merchant) -> None:
    assert [merchant.codepay("CODE0041", "0041").status for _ in range(3)] == [429, 429, 200]
    assert merchant.state("CODE0041") == "SUCCESS"


def test_coupon(merchant: Merchant, world: World) -> None:
    amount = json.loads(merchant.codepay("CODE0050", "0050").body)["amount"]
    assert (amount["total"], amount["payer_total"]) == (10_000, 9_500)
    assert world.money("CODE0050").paid_fen == 10_000


def test_reverse_gives_the_money_back_once(merchant: Merchant, world: World) -> None:
    merchant.codepay("CODEREV1")
    too_early = merchant.reverse("CODEREV1")
    assert (too_early.status, code(too_early)) == (400, "INVALID_REQUEST")
    world.advance(15)
    for _ in range(2):
        reply = merchant.reverse("CODEREV1")
        assert (reply.status, json.loads(reply.body)["out_trade_no"]) == (200, "CODEREV1")
    assert merchant.state("CODEREV1") == "REVOKED"
    money = world.money("CODEREV1")
    assert (money.paid_fen, money.refunded_fen, money.net_fen) == (10_000, 10_000, 0)


@pytest.mark.parametrize("last4", ["0001", "0012"])
def test_reverse_of_an_unpaid_order_closes_it(merchant: Merchant, world: World, last4: str) -> None:
    merchant.codepay("CODEREV2", last4)
    world.advance(15)
    assert merchant.reverse("CODEREV2").status == 200
    assert merchant.state("CODEREV2") == "REVOKED"
    world.advance(60)
    assert world.money("CODEREV2").paid_fen == 0


def test_reverse_races_the_payment(merchant: Merchant, world: World) -> None:
    merchant.codepay("CODEREV3", "0013")
    world.advance(15)
    assert merchant.reverse("CODEREV3").status == 200
    order = world.order("CODEREV3")
    assert order is not None
    assert [state for state, _ in order.history] == ["USERPAYING", "SUCCESS", "REVOKED"]
    assert world.money("CODEREV3").refunded_fen == 10_000


def test_reverse_that_fails_twice_and_one_that_always_fails(merchant: Merchant, world: World) -> None:
    merchant.codepay("CODEREV4", "0030")
    merchant.codepay("CODEREV5", "0031")
    world.advance(15)
    assert [merchant.reverse("CODEREV4").status for _ in range(3)] == [500, 500, 200]
    assert {merchant.reverse("CODEREV5").status for _ in range(5)} == {500}
    assert (merchant.state("CODEREV4"), merchant.state("CODEREV5")) == ("REVOKED", "SUCCESS")


def test_reverse_has_limits(merchant: Merchant, world: World) -> None:
    merchant.jsapi("CODEREV6")
    assert code(merchant.reverse("CODEREV6")) == "INVALID_REQUEST"
    assert code(merchant.reverse("CODEREV404")) == "ORDER_NOT_EXIST"
    merchant.codepay("CODEREV7")
    merchant.codepay("CODEREV8")
    world.advance(60)
    merchant.refund("CODEREV7", "R1", 1)
    assert code(merchant.reverse("CODEREV7")) == "TRADE_ERROR"
    world.advance(7 * 86_400)
    assert code(merchant.reverse("CODEREV8")) == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("name", "lost", "state"),
    [
        ("MICROPAY_USERPAYING", False, "USERPAYING"),
        ("MICROPAY_TIMEOUT", True, "SUCCESS"),
        ("MICROPAY_PAYERROR", False, "USERPAYING"),
        ("MICROPAY_PAY_QUERY_TIMEOUT", True, "SUCCESS"),
    ],
)
def test_negative_test_header(merchant: Merchant, name: str, lost: bool, state: str) -> None:
    reply = merchant.codepay("CODENEG1", headers={"Wechatpay-Negative-Test": name})
    assert reply.lost == lost
    if name == "MICROPAY_PAY_QUERY_TIMEOUT":
        assert merchant.query("CODENEG1").lost
    assert not merchant.query("CODENEG1").lost
    assert merchant.state("CODENEG1") == state
