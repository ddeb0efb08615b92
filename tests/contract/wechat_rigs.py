"""The sandbox WeChat as a rig: in process by `responses`, and over HTTP on a port of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import responses

from adapters.payments.wechat.channel import WeChatChannel
from adapters.payments.wechat.core import HardenedCore
from contracts.payment import PaymentOutcome
from domain.payment import PayMethod
from sandbox.wechat.admin import Admin
from sandbox.wechat.clock import SandboxClock
from sandbox.wechat.keys import KeyMaterial, generate
from sandbox.wechat.rules import parse_fault
from sandbox.wechat.server import Connection
from sandbox.wechat.via_responses import install
from sandbox.wechat.world import World
from tests.contract.payment_channel_suite import Rig

PAY_NOTIFY_URL = "https://shop.example/notify/wechat/pay"
REFUND_NOTIFY_URL = "https://shop.example/notify/wechat/refund"


@cache
def material() -> KeyMaterial:
    """Draw the keys once a session."""
    return generate()


class Inbox:
    """Receives what WeChat posts; `status` is our answer."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 204

    def __call__(self, url: str, headers: dict[str, str], body: bytes) -> int:
        self.received.append((url, headers, body))
        return self.status


class WeChatRig(Rig):
    """The WeChat channel against a world."""

    method = PayMethod.WECHAT_JSAPI

    def __init__(self, world: World, inbox: Inbox, core: HardenedCore) -> None:
        self.world = world
        self.inbox = inbox
        self.core = core
        self.channel = WeChatChannel(
            core=core,
            appid=world.material.appid,
            notify_url=PAY_NOTIFY_URL,
            refund_notify_url=REFUND_NOTIFY_URL,
        )
        self._faults = 0

    def pay(self, outcome: PaymentOutcome) -> None:
        """The telephone verifies paySign before it pays."""
        if "code_url" in outcome.client_params:
            assert self.world.phone.pay(code_url=outcome.client_params["code_url"]) == "paid"
        else:
            assert self.world.phone.confirm(dict(outcome.client_params)) == "paid"

    def advance(self, seconds: int) -> None:
        self.world.advance(seconds)

    def paid_fen(self, out_trade_no: str) -> int:
        return self.world.money(out_trade_no).paid_fen

    def refunded_fen(self, out_trade_no: str) -> int:
        return self.world.money(out_trade_no).refunded_fen

    def fault(self, phase: str, action: str, value: str = "") -> None:
        self._faults += 1
        self.world.faults.append(parse_fault({"phase": phase, "action": {action: value}}, f"F{self._faults}"))


def core_of(keys: KeyMaterial, *, certificates: bool = False, **changes: Any) -> HardenedCore:
    """The product's transport with the merchant's half of the keys."""
    public: dict[str, Any] = {
        "public_key_pem": keys.wechat_public_pem,
        "public_key_id": keys.wechat_public_key_id,
    }
    return HardenedCore(
        mchid=keys.mchid,
        serial_no=keys.merchant_serial,
        private_key_pem=keys.merchant_private_pem,
        apiv3_key=keys.apiv3_key,
        **({} if certificates else public),
        **changes,
    )


@contextmanager
def a_world() -> Iterator[tuple[World, Inbox]]:
    """A world whose time stands still until it is moved, and whose books are sound at the end."""
    inbox = Inbox()
    world = World(material(), clock=SandboxClock(frozen=True), sink=inbox)
    try:
        yield world, inbox
        assert world.couriers.drain(10)
        assert world.invariants() == []
    finally:
        world.stop()


@contextmanager
def in_process(*, certificates: bool = False) -> Iterator[WeChatRig]:
    """The world behind WeChat's real addresses."""
    with a_world() as (world, inbox), responses.RequestsMock(assert_all_requests_are_fired=False) as rsps:
        install(rsps, world, sleep=lambda _seconds: None)
        yield WeChatRig(world, inbox, core_of(world.material, certificates=certificates))


@contextmanager
def over_http(*, certificates: bool = False) -> Iterator[WeChatRig]:
    """The world behind a real socket."""
    with a_world() as (world, inbox), listening(world) as base:
        core = core_of(world.material, certificates=certificates, base_url=base, timeout_s=(1, 5))
        yield WeChatRig(world, inbox, core)


@contextmanager
def listening(world: World) -> Iterator[str]:
    """Serve a world's HTTP front on a free port of this machine; gives its base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin() -> asyncio.Server:
        return await loop.create_server(lambda: Connection(world, Admin(world)), "127.0.0.1", 0)

    server = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
