"""Every openid suffix, and the notification that belongs to it."""

from __future__ import annotations

import json

import pytest

from sandbox.wechat.clock import rfc3339
from sandbox.wechat.phone import PhoneRefused
from sandbox.wechat.rules import PAYER_RULES, Paying, payer_rule
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.merchant import Keys, Merchant, Receiver, code


@pytest.mark.parametrize("openid", ["oDriver1", "o_unknown", "_ok", "ok", "oDriver_OK", ""])
def test_ordinary_openid_waits_for_the_phone(openid: str) -> None:
    assert payer_rule(openid).paying is Paying.PHONE


def test_suffix_is_the_last_part() -> None:
    assert payer_rule("oDriver_17_late30") is PAYER_RULES["_late30"]


def test_ordinary_payer_never_pays_alone(merchant: Merchant, world: World) -> None:
    merchant.jsapi("PAYER00000", "oDriver1")
    world.advance(3600)
    assert merchant.state("PAYER00000") == "NOTPAY"


def test_ok(merchant: Merchant, world: World, receiver: Receiver, keys: Keys) -> None:
    merchant.jsapi("PAYER00001", "oDriver_ok", attach="gun-3")
    assert merchant.state("PAYER00001") == "SUCCESS"
    assert world.couriers.drain(5)
    assert (receiver.events, receiver.genuine) == (["TRANSACTION.SUCCESS"], [True])
    assert receiver.opened() == json.loads(merchant.query("PAYER00001").body)
    assert receiver.opened()["attach"] == "gun-3"
    envelope = json.loads(receiver.got[0][1])
    assert envelope["resource"]["associated_data"] == "transaction"
    assert len(envelope["resource"]["nonce"]) == 12
    assert receiver.got[0][0]["Wechatpay-Serial"] == keys.material.wechat_public_key_id


def test_nopay_and_fail(merchant: Merchant, world: World, receiver: Receiver) -> None:
    for suffix in ("nopay", "fail"):
        prepay_id = json.loads(merchant.jsapi(f"PAYER_{suffix}", f"oD_{suffix}").body)["prepay_id"]
        world.advance(3600)
        with pytest.raises(PhoneRefused):
            world.phone.confirm(merchant.pay_form(prepay_id))
        assert merchant.state(f"PAYER_{suffix}") == "NOTPAY"
    assert not receiver.got


def test_late30(merchant: Merchant, world: World, receiver: Receiver) -> None:
    merchant.jsapi("PAYER00002", "oDriver_late30")
    world.advance(29)
    assert merchant.state("PAYER00002") == "NOTPAY"
    world.advance(1)
    assert merchant.state("PAYER00002") == "SUCCESS"
    assert len(receiver.got) == 1


def test_late30_does_not_pay_a_closed_order(merchant: Merchant, world: World) -> None:
    merchant.jsapi("PAYER00003", "oDriver_late30")
    merchant.close("PAYER00003")
    world.advance(60)
    assert merchant.state("PAYER00003") == "CLOSED"


def test_expire_pays_one_second_before(merchant: Merchant, world: World) -> None:
    merchant.jsapi("PAYER00004", "oDriver_expire", time_expire=rfc3339(world.clock.now_ms() + 300_000))
    world.advance(298)
    assert merchant.state("PAYER00004") == "NOTPAY"
    world.advance(1)
    assert merchant.state("PAYER00004") == "SUCCESS"


def test_race_pays_during_close(merchant: Merchant) -> None:
    merchant.jsapi("PAYER00005", "oDriver_race")
    assert merchant.state("PAYER00005") == "NOTPAY"
    reply = merchant.close("PAYER00005")
    assert (reply.status, code(reply)) == (400, "ORDER_PAID")
    assert merchant.state("PAYER00005") == "SUCCESS"


def test_dup_is_told_three_times(merchant: Merchant, world: World, receiver: Receiver) -> None:
    merchant.jsapi("PAYER00006", "oDriver_dup")
    assert world.couriers.drain(5)
    ids = [json.loads(body)["id"] for _, body in receiver.got]
    assert (len(ids), len(set(ids))) == (3, 2)
    assert {receiver.opened(n)["transaction_id"] for n in range(3)} == {receiver.opened()["transaction_id"]}


def test_lost_is_never_told(merchant: Merchant, world: World, receiver: Receiver) -> None:
    merchant.jsapi("PAYER00007", "oDriver_lost")
    world.advance(2 * 86_400)
    assert not receiver.got
    assert merchant.state("PAYER00007") == "SUCCESS"


def test_slow_is_told_after_ten_minutes(merchant: Merchant, world: World, receiver: Receiver) -> None:
    merchant.jsapi("PAYER00008", "oDriver_slow")
    assert merchant.state("PAYER00008") == "SUCCESS"
    world.advance(599)
    assert not receiver.got
    world.advance(1)
    assert len(receiver.got) == 1


def test_before_is_told_before_the_answer(merchant: Merchant, receiver: Receiver) -> None:
    reply = merchant.jsapi("PAYER00009", "oDriver_before")
    assert reply.status == 200
    assert receiver.opened()["out_trade_no"] == "PAYER00009"


def test_badopenid(merchant: Merchant) -> None:
    reply = merchant.jsapi("PAYER00010", "oDriver_badopenid")
    assert (reply.status, code(reply)) == (400, "INVALID_REQUEST")
    assert "openid" in json.loads(reply.body)["message"]
    assert merchant.state("PAYER00010") == "ORDER_NOT_EXIST"


def test_tamper_then_good(merchant: Merchant, world: World, receiver: Receiver) -> None:
    merchant.jsapi("PAYER00011", "oDriver_tamper")
    world.advance(14)
    assert receiver.genuine == [False]
    world.advance(1)
    assert receiver.genuine == [False, True]


def test_plat_is_signed_by_the_platform_certificate(
    merchant: Merchant, world: World, receiver: Receiver, keys: Keys
) -> None:
    merchant.jsapi("PAYER00012", "oDriver_plat")
    assert world.couriers.drain(5)
    assert receiver.genuine == [True]
    assert receiver.got[0][0]["Wechatpay-Serial"] == keys.material.platform_serial


def test_grey_percent_moves_notifications_between_keys(
    merchant: Merchant, world: World, receiver: Receiver, keys: Keys
) -> None:
    world.state.limits.grey_percent = 0
    merchant.jsapi("PAYER00013", "oDriver_ok")
    assert world.couriers.drain(5)
    assert receiver.got[0][0]["Wechatpay-Serial"] == keys.material.platform_serial


@pytest.mark.parametrize(("total", "payer_total"), [(10_000, 9_500), (500, 0), (100, 0)])
def test_coupon(merchant: Merchant, world: World, total: int, payer_total: int) -> None:
    merchant.jsapi("PAYER00014", "oDriver_coupon", total)
    found = json.loads(merchant.query("PAYER00014").body)
    assert (found["amount"]["total"], found["amount"]["payer_total"]) == (total, payer_total)
    assert found["promotion_detail"][0]["amount"] == total - payer_total
    assert world.money("PAYER00014").paid_fen == total


def test_native_payer_brings_its_rule(merchant: Merchant, world: World, receiver: Receiver) -> None:
    merchant.native("PAYER00015")
    world.phone.pay(out_trade_no="PAYER00015", openid="oDriver_dup")
    assert world.couriers.drain(5)
    assert len(receiver.got) == 3
