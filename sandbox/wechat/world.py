"""The world: one pure core `handle(method, path_qs, headers, body) -> Reply`, thread-safe behind one lock.

Order of checks: route, fault rules before, Authorization and signature, JSON and schema, merchant and
appid, rate limit,
idempotency and state machine, journal, notification, signed answer, fault rules after.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sandbox.wechat import pipeline
from sandbox.wechat.calls import Reply
from sandbox.wechat.clock import SandboxClock
from sandbox.wechat.engine import Engine
from sandbox.wechat.keys import KeyMaterial
from sandbox.wechat.ledger import OrderMoney
from sandbox.wechat.miniapp import MiniProgramHost
from sandbox.wechat.model import Order, order_key
from sandbox.wechat.notify import ANSWER_WITHIN_S, Couriers, Notifications, Sink, build
from sandbox.wechat.phone import Phone
from sandbox.wechat.rules import Chaos, FaultRule
from sandbox.wechat.signing import Keyring
from sandbox.wechat.state import State
from sandbox.wechat.store import Store
from sandbox.wechat.text import dump

TICK_S = 0.02


def nobody(_url: str, _headers: dict[str, str], _body: bytes) -> int:
    """The sink of a world whose notifications reach nobody."""
    return 0


class World:
    """WeChat Pay, the mini-program host and the payers, for one or more merchants.

    `store_path` keeps everything in SQLite; `sink` receives notifications on another thread; `seed` makes
    chances
    repeatable. `signature_follows_clock` puts signatures on the sandbox clock too, for a client with an
    injected clock.
    """

    def __init__(
        self,
        material: KeyMaterial,
        *,
        clock: SandboxClock | None = None,
        sink: Sink = nobody,
        seed: int = 0,
        store_path: Path | None = None,
        couriers: int = 2,
        signature_follows_clock: bool = False,
    ) -> None:
        self.clock = clock or SandboxClock()
        self.material = material
        self.sink = sink
        self.rng = random.Random(seed)
        self.rings = {material.mchid: Keyring(material)}
        self.faults: list[FaultRule] = []
        self.chaos = Chaos()
        self.quotas: dict[tuple[str, str], tuple[int, int]] = {}
        self.lock = threading.RLock()
        self._depth = 0
        self._follow = signature_follows_clock
        self._store = Store(store_path) if store_path else None
        self.state = State(self.clock, self._store)
        self.notifications = Notifications(self.state, self.rng, self.faults, self.chaos)
        self.engine = Engine(self.state, self.notifications)
        self.miniapp = MiniProgramHost(self.engine, material)
        self.phone = Phone(self.engine, self.rings, self.transaction)
        self.couriers = Couriers(self._deliver, couriers)
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        with self.transaction():
            self.notifications.recover()
            self.state.save_clock()

    def add_merchant(self, material: KeyMaterial) -> None:
        """Serve a further merchant."""
        with self.lock:
            self.rings[material.mchid] = Keyring(material)

    def signature_s(self) -> int:
        """Time of signatures in seconds:

        The untouched time source, unless signatures follow the sandbox clock.
        """
        return (self.clock.now_ms() if self._follow else self.clock.source_ms()) // 1000

    # --- calls ------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Lock, run what is due, do the work, run what became due, commit, then let the notifications go."""
        with self.lock:
            self._depth += 1
            try:
                if self._depth == 1:
                    self.engine.run_due()
                yield
                if self._depth == 1:
                    self.engine.run_due()
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.state.commit()
                    outgoing, self.notifications.outgoing = self.notifications.outgoing, []
                    for notify_id in outgoing:
                        self.couriers.submit(notify_id)

    def execute(self, method: str, path_qs: str, headers: dict[str, str], body: bytes) -> Reply:
        """Handle one call without waiting for anything.

        A front honours `delay_ms` and `wait_notify` itself.
        """
        parts = urlsplit(path_qs)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        lowered = {name.lower(): value for name, value in headers.items()}
        if self.miniapp.knows(method, parts.path):
            with self.transaction():
                payload = self.miniapp.handle(method, parts.path, query, body)
            text = dump(payload).encode()
            return Reply(headers={"Content-Type": "application/json; encoding=utf-8"}, body=text)
        return pipeline.run(self, method, path_qs, parts.path, query, lowered, body)

    def handle(self, method: str, path_qs: str, headers: dict[str, str], body: bytes) -> Reply:
        """Handle one call.

        An openid `_before` has its notification delivered before the answer comes back.
        """
        reply = self.execute(method, path_qs, headers, body)
        if reply.wait_notify:
            self.couriers.wait(reply.wait_notify, ANSWER_WITHIN_S)
        return reply

    def _deliver(self, notify_id: str) -> None:
        with self.lock:
            notify = self.state.notifies[notify_id]
            ring = self.rings[notify.mchid]
        headers, body = build(notify, ring, self.signature_s())
        try:
            status = self.sink(notify.url, headers, body)
        except Exception:  # noqa: BLE001  # whatever the receiver raises is a failed delivery, like a dead host
            pipeline.log.warning("sandbox.wechat.notify.sink_failed", notify_id=notify_id, exc_info=True)
            status = 0
        with self.transaction():
            self.notifications.result(notify_id, status)

    # --- time -------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Run what is due; cheap when nothing is."""
        with self.lock:
            due_ms = self.state.next_due_ms()
            if due_ms is not None and due_ms <= self.clock.now_ms():
                with self.transaction():
                    pass

    def start(self) -> None:
        """Run due events in real time on a background thread."""
        if self._ticker is None:
            self._stop.clear()
            self._ticker = threading.Thread(target=self._run_ticker, name="wechat-clock", daemon=True)
            self._ticker.start()

    def _run_ticker(self) -> None:
        while not self._stop.wait(TICK_S):
            self.tick()

    def stop(self) -> None:
        """End the background threads and release the store."""
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join(timeout=5)
            self._ticker = None
        self.couriers.stop()
        with self.lock:
            if self._store is not None:
                self._store.close()

    def advance(self, seconds: int) -> list[dict[str, Any]]:
        """Move the sandbox clock forward, running everything that falls due on the way in its order.

        Notifications that fall due are delivered before the clock moves on. Returns the journal events of
        the way.
        """
        target = self.clock.now_ms() + seconds * 1000
        with self.lock:
            seen = self.state.journal[-1]["seq"] if self.state.journal else 0
        while True:
            self.couriers.drain()
            with self.transaction():
                due_ms = self.state.next_due_ms()
                if due_ms is None or due_ms > target:
                    self.clock.jump_to(target)
                    self.state.save_clock()
                    break
                self.clock.jump_to(due_ms)
                self.state.save_clock()
        self.couriers.drain()
        with self.lock:
            return [event for event in self.state.journal if event["seq"] > seen]

    # --- looking in -------------------------------------------------------------------------------

    def order(self, out_trade_no: str, mchid: str = "") -> Order | None:
        """An order as the sandbox knows it."""
        with self.lock:
            return self.state.order(mchid or self.material.mchid, out_trade_no)

    def money(self, out_trade_no: str, mchid: str = "") -> OrderMoney:
        """What was paid and refunded for an order number, in fen, by the sandbox's own book."""
        with self.lock:
            return self.state.ledger.orders.get(
                order_key(mchid or self.material.mchid, out_trade_no), OrderMoney()
            )

    def invariants(self) -> list[str]:
        """Disagreements between states and money; empty when all is well."""
        with self.lock:
            return self.engine.invariants()

    def reset(self) -> None:
        """Forget all orders, refunds, notifications, faults and chaos."""
        self.couriers.drain()
        with self.transaction():
            self.state.reset()
            self.notifications.outgoing = []
            self.faults.clear()
            for name, value in Chaos().as_dict().items():
                setattr(self.chaos, name, value)
