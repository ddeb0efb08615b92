"""The memory of the world:

Objects, indices, timers, journal; every change is noted and committed together.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import deque
from typing import Any

from sandbox.wechat.clock import SandboxClock
from sandbox.wechat.ledger import Ledger
from sandbox.wechat.model import Movement, Notify, Order, Refund, Timer, order_key
from sandbox.wechat.store import Store

JOURNAL_KEPT = 20_000


@dataclasses.dataclass(kw_only=True)
class Limits:
    """Adjustable rules.

    A rate of 0 means no limit; WeChat's own quotas are about 500, 33 and 150 a second.
    """

    create_per_s: int = 0
    codepay_per_s: int = 0
    refund_per_s: int = 0
    reverse_min_age_s: int = 15
    reverse_days: int = 7
    refund_min_gap_s: int = 60
    refund_settle_s: int = 1
    refund_days: int = 365
    max_refunds: int = 50
    unpaid_close_days: int = 7
    prepay_ttl_s: int = 7200
    grey_percent: int = (
        100  # share of notifications signed with the public key; the rest by the platform certificate
    )


class State:
    """Everything the sandbox knows. Not thread-safe by itself: the world's lock is held by every caller."""

    def __init__(self, clock: SandboxClock, store: Store | None) -> None:
        self.clock = clock
        self._store = store
        self._dirty: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._events: list[dict[str, Any]] = []
        self._empty()
        if store is not None:
            self._load(store)

    def _empty(self) -> None:
        self.orders: dict[str, Order] = {}
        self.refunds: dict[str, Refund] = {}
        self.notifies: dict[str, Notify] = {}
        self.timers: dict[str, Timer] = {}
        self.values: dict[str, dict[str, Any]] = {}
        self.ledger = Ledger()
        self.journal: deque[dict[str, Any]] = deque(maxlen=JOURNAL_KEPT)
        self.limits = Limits()
        self.by_transaction: dict[str, str] = {}
        self.by_prepay: dict[str, str] = {}
        self.by_code_url: dict[str, str] = {}
        self.refund_ids: dict[str, str] = {}
        self._heap: list[tuple[int, int, str]] = []
        self._event_seq = 0
        self._number = 0

    def _load(self, store: Store) -> None:
        for raw in store.objects("order"):
            self.index_order(Order(**raw))
        for raw in store.objects("refund"):
            refund = Refund(**raw)
            self.refunds[refund.key] = refund
            self.refund_ids[refund.refund_id] = refund.key
        for raw in store.objects("notify"):
            notify = Notify(**raw)
            self.notifies[notify.id] = notify
        for raw in store.objects("timer"):
            timer = Timer(**raw)
            self.timers[timer.id] = timer
            heapq.heappush(self._heap, (timer.due_ms, timer.seq, timer.id))
        for raw in store.objects("value"):
            self.values[raw["id"]] = raw["data"]
        for movement in sorted((Movement(**raw) for raw in store.objects("movement")), key=lambda m: m.seq):
            self.ledger.load(movement)
        self._event_seq = store.last_seq()
        self.journal.extend(store.journal(self._event_seq - JOURNAL_KEPT, JOURNAL_KEPT))
        self._number = int(self.value("number").get("last", 0))
        self.limits = Limits(**self.value("limits"))
        if self.value("clock"):
            self.clock.restore(self.value("clock"))

    # --- changes ----------------------------------------------------------------------------------

    def number(self) -> int:
        """The next serial number; ids of every kind are derived from it."""
        self._number += 1
        self.set_value("number", {"last": self._number})
        return self._number

    def value(self, name: str) -> dict[str, Any]:
        """A named small object, {} when it was never set."""
        return self.values.get(name, {})

    def set_value(self, name: str, data: dict[str, Any]) -> None:
        """Keep a named small object."""
        self.values[name] = data
        self._dirty["value", name] = {"id": name, "data": data}

    def forget_value(self, name: str) -> None:
        """Drop a named small object."""
        if self.values.pop(name, None) is not None:
            self._dirty["value", name] = None

    def count(self, name: str) -> int:
        """Add one to a counter and return it."""
        total = int(self.value(f"count:{name}").get("n", 0)) + 1
        self.set_value(f"count:{name}", {"n": total})
        return total

    def index_order(self, order: Order) -> None:
        """Make an order findable by all its names."""
        self.orders[order.key] = order
        if order.transaction_id:
            self.by_transaction[order.transaction_id] = order.key
        for prepay_id, _ in order.prepays:
            self.by_prepay[prepay_id] = order.key
        for code_url, _ in order.code_urls:
            self.by_code_url[code_url] = order.key

    def touch_order(self, order: Order) -> None:
        """Note a new or changed order."""
        self.index_order(order)
        self._dirty["order", order.key] = order.__dict__

    def touch_refund(self, refund: Refund) -> None:
        """Note a new or changed refund."""
        self.refunds[refund.key] = refund
        self.refund_ids[refund.refund_id] = refund.key
        self._dirty["refund", refund.key] = refund.__dict__

    def touch_notify(self, notify: Notify) -> None:
        """Note a new or changed notification."""
        self.notifies[notify.id] = notify
        self._dirty["notify", notify.id] = notify.__dict__

    def book(self, kind: str, posting: str, order: Order, legs: dict[str, int]) -> None:
        """Post to the ledger for an order."""
        now = self.clock.now_ms()
        for movement in self.ledger.post(kind, posting, now, order.mchid, order.out_trade_no, legs):
            self._dirty["movement", f"{movement.seq:012d}"] = movement.__dict__

    def event(self, kind: str, otn: str = "", **data: Any) -> None:
        """Append to the journal."""
        self._event_seq += 1
        line = {
            "seq": self._event_seq,
            "at_ms": self.clock.now_ms(),
            "kind": kind,
            "out_trade_no": otn,
            **data,
        }
        self.journal.append(line)
        self._events.append(line)

    # --- timers -----------------------------------------------------------------------------------

    def schedule(self, action: str, ref: str, due_ms: int, argument: str = "") -> None:
        """Plan `action` on `ref`; an earlier plan of the same action and ref is replaced."""
        timer = Timer(
            id=f"{action}:{ref}", due_ms=due_ms, seq=self.number(), action=action, ref=ref, argument=argument
        )
        self.timers[timer.id] = timer
        heapq.heappush(self._heap, (timer.due_ms, timer.seq, timer.id))
        self._dirty["timer", timer.id] = timer.__dict__

    def unschedule(self, action: str, ref: str) -> None:
        """Drop a plan, if there is one."""
        if self.timers.pop(f"{action}:{ref}", None) is not None:
            self._dirty["timer", f"{action}:{ref}"] = None

    def next_due_ms(self) -> int | None:
        """When the next timer is due; None without timers."""
        while self._heap:
            due_ms, seq, timer_id = self._heap[0]
            timer = self.timers.get(timer_id)
            if timer is not None and timer.seq == seq:
                return due_ms
            heapq.heappop(self._heap)
        return None

    def pop_due(self) -> Timer | None:
        """Take the earliest timer that is due."""
        due_ms = self.next_due_ms()
        if due_ms is None or due_ms > self.clock.now_ms():
            return None
        _, _, timer_id = heapq.heappop(self._heap)
        timer = self.timers.pop(timer_id)
        self._dirty["timer", timer_id] = None
        return timer

    # --- store ------------------------------------------------------------------------------------

    def save_limits(self) -> None:
        """Note changed limits."""
        self.set_value("limits", dataclasses.asdict(self.limits))

    def save_clock(self) -> None:
        """Note a moved clock."""
        self.set_value("clock", self.clock.snapshot())

    def commit(self) -> None:
        """Write all noted changes in one transaction; nothing is acknowledged before."""
        if self._store is not None and (self._dirty or self._events):
            self._store.write(self._dirty, self._events)
        self._dirty = {}
        self._events = []

    def reset(self) -> None:
        """Forget everything but the clock and the limits."""
        limits = self.limits
        self._empty()
        self._dirty, self._events = {}, []
        if self._store is not None:
            self._store.clear()
        self.limits = limits
        self.save_limits()
        self.save_clock()

    def order(self, mchid: str, out_trade_no: str) -> Order | None:
        """The order of a merchant, whatever its state."""
        return self.orders.get(order_key(mchid, out_trade_no))
