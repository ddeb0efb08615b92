"""In-process front, and a world that continues from its store."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import responses

from sandbox.wechat.calls import Reply
from sandbox.wechat.clock import SandboxClock
from sandbox.wechat.keys import KeyMaterial
from sandbox.wechat.rules import parse_fault
from sandbox.wechat.via_responses import MINI_PROGRAM_HOST, PAY_HOSTS, install
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.conftest import START_MS
from tests.unit.sandbox_wechat.merchant import Keys, Merchant, Receiver, Send


def over_requests(base: str) -> Send:
    """Send through `requests` with a read timeout of five seconds."""

    def send(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        answer = requests.request(method, base + path, headers=headers, data=body, timeout=(3, 5))
        return Reply(status=answer.status_code, headers=dict(answer.headers), body=answer.content)

    return send


@pytest.fixture
def mounted(world: World) -> Iterator[World]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as rsps:
        install(rsps, world, sleep=lambda _seconds: None)
        yield world


@pytest.mark.parametrize("host", PAY_HOSTS)
def test_every_pay_host(mounted: World, keys: Keys, host: str) -> None:
    merchant = Merchant(keys=keys, send=over_requests(f"https://{host}"), now_s=mounted.signature_s)
    reply = merchant.jsapi("FRONT00001")
    assert (reply.status, keys.genuine(reply.headers, reply.body)) == (200, True)
    assert merchant.state("FRONT00001") == "NOTPAY"
    assert merchant.close("FRONT00001").status == 204


def test_lost_reset_and_slow(mounted: World, keys: Keys) -> None:
    merchant = Merchant(keys=keys, send=over_requests(f"https://{PAY_HOSTS[0]}"), now_s=mounted.signature_s)
    with pytest.raises(requests.exceptions.ReadTimeout):
        merchant.codepay("FRONT00002", "0022")
    assert merchant.state("FRONT00002") == "SUCCESS"
    mounted.faults.append(parse_fault({"phase": "before", "action": {"reset_conn": ""}}, "F1"))
    with pytest.raises(requests.exceptions.ConnectionError):
        merchant.jsapi("FRONT00003")
    assert merchant.state("FRONT00003") == "ORDER_NOT_EXIST"
    mounted.faults.append(parse_fault({"phase": "before", "action": {"delay_ms": 4_999}}, "F2"))
    assert merchant.jsapi("FRONT00004").status == 200
    mounted.faults.append(parse_fault({"phase": "before", "action": {"delay_ms": 5_000}}, "F3"))
    with pytest.raises(requests.exceptions.ReadTimeout):
        merchant.jsapi("FRONT00005")
    assert merchant.state("FRONT00005") == "NOTPAY"


def test_mini_program_host_and_no_admin(mounted: World) -> None:
    material = mounted.material
    query = f"appid={material.appid}&secret={material.appsecret}&js_code=ok:oDriver1&grant_type=authorization_code"
    url = f"https://{MINI_PROGRAM_HOST}/sns/jscode2session?{query}"
    assert requests.get(url, timeout=5).json()["openid"] == "oDriver1"
    assert requests.get(f"https://{PAY_HOSTS[0]}/_sandbox/state", timeout=5).status_code == 404


def test_world_continues_from_its_store(
    material: KeyMaterial, keys: Keys, receiver: Receiver, tmp_path: Path
) -> None:
    path = tmp_path / "wechat.sqlite"
    receiver.answers = [500]
    first = World(material, clock=SandboxClock(lambda: START_MS), sink=receiver, store_path=path)
    merchant = Merchant(keys=keys, send=first.handle, now_s=first.signature_s)
    prepay_id = json.loads(merchant.jsapi("STORE00001", "oD").body)["prepay_id"]
    code_url = json.loads(merchant.native("STORE00002").body)["code_url"]
    merchant.jsapi("STORE00003", "oD_ok")
    merchant.jsapi("STORE00004", "oD_late30")
    merchant.refund("STORE00003", "R1", 300, reason="[SIM:slow=20]")
    assert first.couriers.drain(5)
    first.advance(5)
    first.state.limits.refund_min_gap_s = 7
    with first.transaction():
        first.state.save_limits()
    book = {otn: first.money(otn) for otn in ("STORE00003", "STORE00004")}
    journal = list(first.state.journal)

    # No stop, no flush: the process is simply gone. Everything acknowledged is already in the file.
    second = World(material, clock=SandboxClock(lambda: START_MS), sink=receiver, store_path=path)
    merchant.send = second.handle
    assert second.clock.now_ms() == START_MS + 5_000
    assert list(second.state.journal) == journal
    assert {otn: second.money(otn) for otn in book} == book
    assert second.state.limits.refund_min_gap_s == 7
    assert second.invariants() == []
    second.advance(60)
    assert second.phone.pay(prepay_id=prepay_id) == "paid"
    assert second.phone.scan(code_url).out_trade_no == "STORE00002"
    assert merchant.state("STORE00004") == "SUCCESS"
    assert merchant.query_refund("R1")["status"] == "SUCCESS"
    assert second.couriers.drain(5)
    assert receiver.events.count("TRANSACTION.SUCCESS") == 4  # STORE00003 twice, 4 and 1 once each
    assert second.invariants() == []
    second.stop()
    first.stop()


def test_notification_under_way_at_the_crash_is_sent_again(
    material: KeyMaterial, keys: Keys, receiver: Receiver, tmp_path: Path
) -> None:
    gate = threading.Event()

    def hanging(_url: str, _headers: dict[str, str], _body: bytes) -> int:
        gate.wait(10)
        return 0

    path = tmp_path / "wechat.sqlite"
    first = World(material, clock=SandboxClock(lambda: START_MS), sink=hanging, store_path=path)
    Merchant(keys=keys, send=first.handle, now_s=first.signature_s).jsapi("STORE00005", "oD_ok")
    second = World(material, clock=SandboxClock(lambda: START_MS), sink=receiver, store_path=path)
    second.tick()
    assert second.couriers.drain(5)
    assert receiver.genuine == [True]
    gate.set()
    first.couriers.drain(5)
    second.stop()
    first.stop()


def test_ticker_runs_due_events_in_real_time(material: KeyMaterial, keys: Keys) -> None:
    told = threading.Event()

    def sink(_url: str, _headers: dict[str, str], _body: bytes) -> int:
        told.set()
        return 200

    world = World(material, sink=sink)
    world.state.limits.refund_settle_s = 0
    world.start()
    merchant = Merchant(keys=keys, send=world.handle, now_s=world.signature_s)
    merchant.jsapi("TICK000001", "oD_lost")
    merchant.refund("TICK000001", "R1", 1)
    assert told.wait(5)
    world.stop()


def test_two_merchants_share_a_world(material: KeyMaterial, keys: Keys, world: World) -> None:
    other = replace(material, mchid="1900000110", appid="wx9999999999999999")
    world.add_merchant(other)
    second = Merchant(keys=Keys(other), send=world.handle, now_s=world.signature_s)
    first = Merchant(keys=keys, send=world.handle, now_s=world.signature_s)
    first.jsapi("SHARED0001", "oD_ok", 100)
    second.jsapi("SHARED0001", "oD_ok", 200)
    assert world.money("SHARED0001").paid_fen == 100
    assert world.money("SHARED0001", other.mchid).paid_fen == 200
    assert json.loads(second.query("SHARED0001").body)["amount"]["total"] == 200


def test_threads_agree_on_one_order(world: World, keys: Keys) -> None:
    def charge() -> None:
        merchant = Merchant(keys=keys, send=world.handle, now_s=world.signature_s)
        merchant.jsapi("THREAD0001", "oD_ok")
        merchant.refund("THREAD0001", "TR1", 5_000)

    threads = [threading.Thread(target=charge) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    world.advance(60)
    money = world.money("THREAD0001")
    assert (money.payments, money.paid_fen, money.refunded_fen) == (1, 10_000, 5_000)
