"""The retry ladder on the sandbox clock, and delivery that never disturbs the caller."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from sandbox.wechat.model import NotifyStatus
from sandbox.wechat.notify import RETRY_LADDER_S, HttpSink
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.merchant import Merchant, Receiver


def test_ladder_is_the_published_one() -> None:
    assert len(RETRY_LADDER_S) == 15
    assert sum(RETRY_LADDER_S) == 24 * 3600 + 4 * 60


def test_fifteen_tries_at_their_seconds_then_failed(
    merchant: Merchant, world: World, receiver: Receiver
) -> None:
    receiver.answers = [500] * 16
    start_ms = world.clock.now_ms()
    merchant.jsapi("NOTIFY0001", "oDriver_ok")
    world.advance(2 * 86_400)
    (notify,) = world.state.notifies.values()
    seconds = [(at - start_ms) // 1000 for at, _ in notify.attempts]
    assert seconds == [sum(RETRY_LADDER_S[:tried]) for tried in range(16)]
    assert notify.status == NotifyStatus.FAILED
    assert len(receiver.got) == 16


@pytest.mark.parametrize("answer", [200, 204])
def test_stops_when_accepted(merchant: Merchant, world: World, receiver: Receiver, answer: int) -> None:
    receiver.answers = [500, 0, answer]
    merchant.jsapi("NOTIFY0002", "oDriver_ok")
    world.advance(86_400)
    (notify,) = world.state.notifies.values()
    assert ([status for _, status in notify.attempts], notify.status) == ([500, 0, answer], "delivered")


@pytest.mark.parametrize("answer", [201, 302, 401, 404, 500])
def test_anything_else_is_tried_again(
    merchant: Merchant, world: World, receiver: Receiver, answer: int
) -> None:
    receiver.answers = [answer]
    merchant.jsapi("NOTIFY0003", "oDriver_ok")
    world.advance(15)
    assert receiver.genuine == [True, True]


def test_each_try_is_signed_and_sealed_anew(merchant: Merchant, world: World, receiver: Receiver) -> None:
    receiver.answers = [500]
    merchant.jsapi("NOTIFY0004", "oDriver_ok")
    world.advance(15)
    (first, one), (second, two) = receiver.got
    assert first["Wechatpay-Nonce"] != second["Wechatpay-Nonce"]
    assert one != two
    assert receiver.opened(0) == receiver.opened(1)


def test_receiver_that_raises_counts_as_nobody(merchant: Merchant, world: World) -> None:
    def broken(_url: str, _headers: dict[str, str], _body: bytes) -> int:
        raise RuntimeError("receiver died")

    world.sink = broken
    merchant.jsapi("NOTIFY0005", "oDriver_ok")
    assert world.couriers.drain(5)
    (notify,) = world.state.notifies.values()
    assert (notify.status, notify.attempts[0][1]) == ("pending", 0)


def test_delivery_runs_on_another_thread(merchant: Merchant, world: World) -> None:
    seen: list[str] = []
    gate = threading.Event()

    def slow(_url: str, _headers: dict[str, str], _body: bytes) -> int:
        gate.wait(5)
        seen.append(threading.current_thread().name)
        return 200

    world.sink = slow
    assert (
        merchant.jsapi("NOTIFY0006", "oDriver_ok").status == 200
    )  # comes back while the receiver still waits
    assert not seen
    gate.set()
    assert world.couriers.drain(5)
    assert seen == ["wechat-notify"]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    got: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    _Handler.got = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_http_sink(address: str) -> None:
    sink = HttpSink()
    assert [sink(f"{address}/n", {"X": "1"}, b"{}") for _ in range(3)] == [204, 204, 204]
    assert _Handler.got == [("/n", b"{}")] * 3


def test_http_sink_refuses_foreign_hosts_and_survives_dead_ones(address: str) -> None:
    assert HttpSink()("http://192.0.2.1/n", {}, b"") == 0
    assert HttpSink(allow=())(f"{address}/n", {}, b"") == 0
    assert HttpSink()("http://127.0.0.1:1/n", {}, b"") == 0
    assert _Handler.got == []
