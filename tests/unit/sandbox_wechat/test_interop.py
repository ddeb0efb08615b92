"""A third party's client, untouched, works against the sandbox in both key modes: we did not test our own mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import responses
from wechatpayv3 import WeChatPay, WeChatPayType

from sandbox.wechat.keys import KeyMaterial
from sandbox.wechat.via_responses import install
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.merchant import NOTIFY_URL, Receiver


@pytest.fixture
def live(material: KeyMaterial, receiver: Receiver) -> Iterator[World]:
    """On the machine's clock, because the foreign client knows no other."""
    world = World(material, sink=receiver)
    with responses.RequestsMock(assert_all_requests_are_fired=False) as rsps:
        install(rsps, world)
        yield world
    assert world.invariants() == []
    world.stop()


@pytest.mark.parametrize("mode", ["public_key", "certificate"])
def test_stock_client(live: World, material: KeyMaterial, receiver: Receiver, mode: str) -> None:
    public = {
        "public_key": material.wechat_public_pem,
        "public_key_id": material.wechat_public_key_id,
    }
    client = WeChatPay(
        wechatpay_type=WeChatPayType.MINIPROG,
        mchid=material.mchid,
        private_key=material.merchant_private_pem,
        cert_serial_no=material.merchant_serial,
        apiv3_key=material.apiv3_key,
        appid=material.appid,
        notify_url=NOTIFY_URL,
        **(public if mode == "public_key" else {}),
    )
    openid = "oDriver_plat" if mode == "certificate" else "oDriver1"
    order = {"description": "92号汽油", "out_trade_no": "INTEROP001", "amount": {"total": 100}}
    status, text = client.pay(**order, payer={"openid": openid})
    assert status == 200
    package = f"prepay_id={json.loads(text)['prepay_id']}"
    form = {"timeStamp": "1", "nonceStr": "n", "package": package, "signType": "RSA"}
    form["paySign"] = client.sign([material.appid, "1", "n", package])
    assert live.phone.confirm(form) == "paid"
    assert json.loads(client.query(out_trade_no="INTEROP001")[1])["trade_state"] == "SUCCESS"
    amount = {"refund": 1, "total": 100, "currency": "CNY"}
    assert client.refund(out_trade_no="INTEROP001", out_refund_no="R1", amount=amount)[0] == 200
    assert json.loads(client.close(out_trade_no="INTEROP001")[1])["code"] == "ORDER_PAID"
    assert live.couriers.drain(5)
    headers, body = receiver.got[0]
    event = client.callback(headers, body.decode())
    assert event["event_type"] == "TRANSACTION.SUCCESS"
