"""The telephone verifies the merchant's paySign before it pays."""

from __future__ import annotations

import json

import pytest

from sandbox.wechat.phone import PhoneRefused
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.merchant import Merchant


@pytest.mark.parametrize(
    "change",
    [
        {"timeStamp": "1"},
        {"nonceStr": "other"},
        {"paySign": "AAAA"},
        {"paySign": ""},
        {"signType": "MD5"},
        {"appId": "wx0000000000000000"},
        {"package": "prepay_id=wx1"},
        {"package": "wx1"},
    ],
)
def test_wrong_form_is_not_paid(merchant: Merchant, world: World, change: dict[str, str]) -> None:
    prepay_id = json.loads(merchant.jsapi("PHONE00001").body)["prepay_id"]
    with pytest.raises(PhoneRefused):
        world.phone.confirm(merchant.pay_form(prepay_id) | change)
    assert merchant.state("PHONE00001") == "NOTPAY"


def test_sign_of_another_prepay_is_refused(merchant: Merchant, world: World) -> None:
    first, second = (json.loads(merchant.jsapi(f"PHONE0000{n}").body)["prepay_id"] for n in (2, 3))
    form = merchant.pay_form(first) | {"package": f"prepay_id={second}"}
    with pytest.raises(PhoneRefused, match="签名"):
        world.phone.confirm(form)


def test_payer_must_be_the_one_who_ordered(merchant: Merchant, world: World) -> None:
    prepay_id = json.loads(merchant.jsapi("PHONE00004").body)["prepay_id"]
    with pytest.raises(PhoneRefused, match="不一致"):
        world.phone.confirm(merchant.pay_form(prepay_id), openid="oSomebodyElse")
    assert world.phone.confirm(merchant.pay_form(prepay_id), openid="oDriver1") == "paid"
    assert world.phone.confirm(merchant.pay_form(prepay_id), openid="oDriver1") == "paid"
    assert world.money("PHONE00004").payments == 1


def test_native_code_can_be_paid_once(merchant: Merchant, world: World) -> None:
    code_url = json.loads(merchant.native("PHONE00005").body)["code_url"]
    world.phone.pay(code_url=code_url, openid="oA")
    with pytest.raises(PhoneRefused, match="不一致"):
        world.phone.pay(code_url=code_url, openid="oB")
    with pytest.raises(PhoneRefused, match="已支付"):
        world.phone.scan(code_url)
    with pytest.raises(PhoneRefused, match="无效"):
        world.phone.scan("weixin://wxpay/bizpayurl?pr=none")


def test_password_cancel_and_fail(merchant: Merchant, world: World) -> None:
    merchant.codepay("PHONE00006", "0012")
    assert world.phone.enter_password("PHONE00006") == "paid"
    world.advance(60)
    assert merchant.state("PHONE00006") == "SUCCESS"
    merchant.codepay("PHONE00007", "0012")
    world.phone.cancel("PHONE00007")
    assert merchant.state("PHONE00007") == "PAYERROR"
    with pytest.raises(PhoneRefused):
        world.phone.enter_password("PHONE00007")
    merchant.jsapi("PHONE00008")
    world.phone.fail("PHONE00008")
    assert merchant.state("PHONE00008") == "NOTPAY"
    with pytest.raises(PhoneRefused, match="不存在"):
        world.phone.pay(out_trade_no="NOTHING")
