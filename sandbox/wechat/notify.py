"""Notifications: what is sent, when it is tried again, and the threads that carry it out.

Ladder after a failed delivery (WeChat Pay "callback notification" page): 15 further tries over 24 h 4 min.
A receiver has
five seconds and must answer 200 or 204.
"""

from __future__ import annotations

import http.client
import queue
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import structlog

from sandbox.wechat.clock import rfc3339
from sandbox.wechat.model import Notify, NotifyStatus
from sandbox.wechat.rules import LATE_NOTICE_S, Chaos, FaultRule, Phase, Telling
from sandbox.wechat.signing import PROBE_SIGNATURE, Keyring, aes_gcm_encrypt, broken, signed_headers
from sandbox.wechat.state import State
from sandbox.wechat.text import dump, token

log = structlog.get_logger(__name__)

RETRY_LADDER_S = (
    *(15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600),
    *(10800, 10800, 10800, 21600, 21600),
)
ANSWER_WITHIN_S = 5
Sink = Callable[[str, dict[str, str], bytes], int]
"""(url, headers, body) -> HTTP status; 0 or an exception means that nobody answered."""


def build(notify: Notify, ring: Keyring, now_s: int) -> tuple[dict[str, str], bytes]:
    """Encrypt and sign one delivery; a tampered one carries a signature that does not verify."""
    nonce = token(12)
    plain = dump(notify.resource).encode()
    envelope = {
        "id": notify.event_id,
        "create_time": rfc3339(notify.created_ms),
        "resource_type": "encrypt-resource",
        "event_type": notify.event_type,
        "summary": notify.summary,
        "resource": {
            "original_type": notify.original_type,
            "algorithm": "AEAD_AES_256_GCM",
            "ciphertext": aes_gcm_encrypt(ring.apiv3_key, nonce, notify.original_type, plain),
            "associated_data": notify.original_type,
            "nonce": nonce,
        },
    }
    body = dump(envelope).encode()
    headers = signed_headers(ring.platform if notify.key == "platform" else ring.wechat, now_s, body)
    if notify.probe:
        headers["Wechatpay-Signature"] = PROBE_SIGNATURE + token(64)
    elif notify.tamper:
        headers = broken(headers)
    return {**headers, "Content-Type": "application/json"}, body


class Notifications:
    """The book of notifications; the world's lock is held by every caller."""

    def __init__(self, state: State, rng: random.Random, faults: list[FaultRule], chaos: Chaos) -> None:
        self.state = state
        self.rng = rng
        self.faults = faults
        self.chaos = chaos
        self.outgoing: list[str] = []

    def announce(
        self,
        *,
        mchid: str,
        url: str,
        event_type: str,
        summary: str,
        otn: str,
        resource: dict[str, Any],
        telling: Telling = Telling.NORMAL,
    ) -> Notify | None:
        """Plan a notification under the payer's rule, admin faults and chaos.

        None when there is no address.
        """
        if not url:
            return None
        now = self.state.clock.now_ms()
        notify = self._new(mchid, url, event_type, summary, otn, resource, now)
        fault = self._fault(otn, mchid)
        if telling is Telling.PLATFORM_KEY or self.rng.random() * 100 >= self.state.limits.grey_percent:
            notify.key = "platform"
        if telling is Telling.TAMPERED_FIRST or fault == "tamper":
            notify.tamper = 1
        due = now
        if telling is Telling.LATE or self.chaos.strikes("late_notify", self.rng):
            due += LATE_NOTICE_S * 1000
        elif fault.isdigit():
            due += int(fault)
        if telling is Telling.NEVER or fault == "lost" or self.chaos.strikes("lost_notify", self.rng):
            notify.status = NotifyStatus.DROPPED.value
        self._keep(notify, due)
        if (
            telling is Telling.TWICE_MORE
            or fault == "duplicate"
            or self.chaos.strikes("dup_notify", self.rng)
        ):
            self.duplicate(notify, due)
            # The third copy has an id of its own: a receiver must not rely on the event id alone.
            self.duplicate(notify, due, event_id=self._event_id())
        return notify

    def _new(
        self,
        mchid: str,
        url: str,
        event_type: str,
        summary: str,
        otn: str,
        resource: dict[str, Any],
        now: int,
    ) -> Notify:
        return Notify(
            id=f"N{self.state.number():08d}",
            event_id=self._event_id(),
            mchid=mchid,
            url=url,
            event_type=event_type,
            original_type="refund" if event_type.startswith("REFUND") else "transaction",
            summary=summary,
            out_trade_no=otn,
            resource=resource,
            created_ms=now,
        )

    def _event_id(self) -> str:
        return f"EV-{rfc3339(self.state.clock.now_ms())[:10].replace('-', '')}{self.state.number():012d}"

    def _fault(self, otn: str, mchid: str) -> str:
        """The action of the first matching notification fault.

        A delay comes back as digits (milliseconds).
        """
        for rule in self.faults:
            if rule.phase is Phase.NOTIFY and rule.matches("", "", otn, mchid) and self.rng.random() < rule.p:
                rule.used += 1
                return rule.value if rule.action == "delay_ms" else rule.action
        return ""

    def _keep(self, notify: Notify, due_ms: int) -> None:
        self.state.touch_notify(notify)
        self.state.event("notify.planned", notify.out_trade_no, id=notify.id, type=notify.event_type)
        if notify.status == NotifyStatus.PENDING:
            self.state.schedule("notify", notify.id, due_ms)

    def duplicate(self, notify: Notify, due_ms: int, event_id: str = "") -> Notify:
        """Plan the same notification once more."""
        copy = Notify(**{**notify.__dict__, "attempts": [], "tries": 0, "status": NotifyStatus.PENDING.value})
        copy.id, copy.event_id = f"N{self.state.number():08d}", event_id or notify.event_id
        self._keep(copy, due_ms)
        return copy

    def resend(self, notify: Notify) -> None:
        """Send now, whatever happened before."""
        notify.status = NotifyStatus.PENDING.value
        self.state.touch_notify(notify)
        self.state.schedule("notify", notify.id, self.state.clock.now_ms())

    def drop(self, notify: Notify) -> None:
        """Never send again."""
        notify.status = NotifyStatus.DROPPED.value
        self.state.touch_notify(notify)
        self.state.unschedule("notify", notify.id)

    def due(self, notify_id: str) -> None:
        """Timer handler: hand over to the threads once the transaction is committed."""
        if self.state.notifies[notify_id].status == NotifyStatus.PENDING:
            self.outgoing.append(notify_id)

    def result(self, notify_id: str, status: int) -> None:
        """Book the outcome of a delivery and plan the next try."""
        notify = self.state.notifies.get(notify_id)
        if notify is None:
            return
        notify.tries += 1
        notify.tamper = max(0, notify.tamper - 1)
        notify.attempts.append([self.state.clock.now_ms(), status])
        self.state.event("notify.tried", notify.out_trade_no, id=notify_id, tries=notify.tries, status=status)
        if notify.status == NotifyStatus.PENDING:
            if status in (200, 204):
                notify.status = NotifyStatus.DELIVERED.value
            elif notify.probe or notify.tries > len(RETRY_LADDER_S):
                notify.status = NotifyStatus.FAILED.value
            else:
                wait_s = RETRY_LADDER_S[notify.tries - 1]
                self.state.schedule("notify", notify_id, self.state.clock.now_ms() + wait_s * 1000)
        self.state.touch_notify(notify)

    def recover(self) -> None:
        """After a restart: a notification that was on its way has no timer any more; try it again."""
        for notify in self.state.notifies.values():
            if notify.status == NotifyStatus.PENDING and f"notify:{notify.id}" not in self.state.timers:
                self.state.schedule("notify", notify.id, self.state.clock.now_ms())


class Couriers:
    """Daemon threads that carry notifications, so that no call of a merchant waits for the merchant's own
    receiver."""

    def __init__(self, deliver: Callable[[str], None], workers: int) -> None:
        self._deliver = deliver
        self._workers = workers
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._busy: Counter[str] = Counter()
        self._idle = threading.Condition()
        self._threads: list[threading.Thread] = []

    def submit(self, notify_id: str) -> None:
        """Queue one delivery."""
        with self._idle:
            self._busy[notify_id] += 1
            if len(self._threads) < self._workers:
                thread = threading.Thread(target=self._work, name="wechat-notify", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._queue.put(notify_id)

    def _work(self) -> None:
        while (notify_id := self._queue.get()) is not None:
            try:
                self._deliver(notify_id)
            except Exception:
                # A courier must outlive any single delivery; the failure is on record and the ladder goes on.
                log.exception("sandbox.wechat.notify.broken", notify_id=notify_id)
            finally:
                with self._idle:
                    self._busy[notify_id] -= 1
                    self._busy += Counter()
                    self._idle.notify_all()

    def wait(self, notify_id: str, timeout_s: int) -> bool:
        """Wait until one notification is no longer on its way."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._busy[notify_id], timeout_s)

    def drain(self, timeout_s: int = 30) -> bool:
        """Wait until nothing is on its way; False when that takes too long."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._busy, timeout_s)

    def stop(self) -> None:
        """End the threads after what is queued."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=ANSWER_WITHIN_S + 1)
        self._threads = []


class HttpSink:
    """Posts notifications over kept-alive connections, only to hosts on the allow list (default:

    This machine).
    """

    def __init__(self, allow: tuple[str, ...] = ("127.0.0.1", "localhost", "::1")) -> None:
        self._allow = allow
        self._local = threading.local()

    def __call__(self, url: str, headers: dict[str, str], body: bytes) -> int:
        """Deliver once; 0 when the host is not allowed or does not answer in time."""
        parts = urlsplit(url)
        if parts.hostname not in self._allow:
            log.warning("sandbox.wechat.notify.host_refused", host=parts.hostname)
            return 0
        for fresh in (False, True):
            try:
                return self._post(parts.scheme, parts.netloc, parts.path or "/", headers, body, fresh=fresh)
            except TimeoutError:
                self._drop(parts.netloc)
                return 0
            except (OSError, http.client.HTTPException):
                self._drop(
                    parts.netloc
                )  # a kept connection may have been closed by the receiver: once more, fresh
        return 0

    def _post(
        self, scheme: str, netloc: str, path: str, headers: dict[str, str], body: bytes, *, fresh: bool
    ) -> int:
        kept: dict[str, http.client.HTTPConnection] = self._local.__dict__.setdefault("kept", {})
        connection = None if fresh else kept.get(netloc)
        if connection is None:
            kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
            connection = kept[netloc] = kind(netloc, timeout=ANSWER_WITHIN_S)
        connection.request("POST", path, body, {"User-Agent": "Mozilla/4.0", "Accept": "*/*", **headers})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def _drop(self, netloc: str) -> None:
        kept: dict[str, http.client.HTTPConnection] = self._local.__dict__.get("kept", {})
        connection = kept.pop(netloc, None)
        if connection is not None:
            connection.close()
