"""The outbox relay: sent once, a refusal is final, everything else is tried again with growing pauses."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from sqlalchemy.exc import OperationalError

from adapters.miniprogram.client import MiniProgramClient
from adapters.miniprogram.errors import (
    MessageInvalidError,
    MiniProgramBusyError,
    MiniProgramError,
    SubscribeRefusedError,
)
from db.crypto import CipherError
from db.repositories.outbox import DueMessage, OutboxRelayStore, Outcome
from workers.outbox_relay import Relay, receipt_fields

NOW = datetime(2026, 5, 1, 8, tzinfo=UTC)
BODY = (
    '{"amount_yuan": "147.00", "nozzle_no": 1, "product": "92号汽油", "quantity": "20.00", "unit": "升",'
    ' "station": "加注示范站", "receipt_no": "RP123"}'
)


@dataclass
class FakeStore:
    """Due messages, and what became of each."""

    due: list[DueMessage] = field(default_factory=list)
    finished: dict[int, str] = field(default_factory=dict)
    postponed: dict[int, datetime] = field(default_factory=dict)
    claims: int = 0
    away: int = 0

    def claim(self, now: datetime, limit: int) -> list[DueMessage]:
        """Hand out what is due; the database is away as often as the test says."""
        self.claims += 1
        if self.away:
            self.away -= 1
            raise OperationalError("claim", {}, Exception("gone"))
        found, self.due = self.due[:limit], self.due[limit:]
        return found

    def finish(self, outcomes: list[Outcome], now: datetime) -> None:
        """Keep how each message of a batch ended."""
        for one in outcomes:
            if one.again_at is None:
                self.finished[one.message_id] = one.outcome
            else:
                self.postponed[one.message_id] = one.again_at


@dataclass
class FakeHost:
    """The mini-program's host; raises what the test arranged, remembers what was sent."""

    error: MiniProgramError | None = None
    sent: list[tuple[str, str, Mapping[str, str], str]] = field(default_factory=list)

    def send_subscribe_message(
        self, *, openid: str, template_id: str, data: Mapping[str, str], page: str
    ) -> None:
        """Take a message or refuse it."""
        if self.error is not None:
            raise self.error
        self.sent.append((openid, template_id, data, page))


def relay(store: FakeStore, host: FakeHost) -> Relay:
    """Return a relay over the fakes."""
    return Relay(
        store=cast(OutboxRelayStore, store),
        client=cast(MiniProgramClient, host),
        decrypt_openid=lambda cipher: cipher.removeprefix("sealed-"),
        clock=lambda: NOW,
    )


def message(number: int = 1, *, attempts: int = 1, openid_cipher: str | None = "sealed-driver") -> DueMessage:
    """Return a due receipt message."""
    return DueMessage(
        id=number,
        key=f"receipt:{number}",
        kind="receipt",
        order_no=f"P{number}",
        body=BODY,
        attempts=attempts,
        openid_cipher=openid_cipher,
    )


@pytest.mark.feature("000-3")
def test_message_tells_amount_nozzle_and_quantity() -> None:
    store, host = FakeStore(due=[message()]), FakeHost()
    assert relay(store, host).run_once() == 1
    ((openid, _, data, page),) = host.sent
    assert (openid, page) == ("driver", "pages/order?no=P1")
    assert data["amount1"] == "¥147.00"
    assert data["thing2"] == "1号枪 92号汽油"
    assert data["thing3"] == "20.00升"
    assert store.finished == {1: "sent"}


def test_nobody_to_tell_is_an_end() -> None:
    store, host = FakeStore(due=[message(openid_cipher=None)]), FakeHost()
    relay(store, host).run_once()
    assert (store.finished, host.sent) == ({1: "nobody to tell"}, [])


@pytest.mark.parametrize("error", [SubscribeRefusedError(43101), MessageInvalidError(47003)])
def test_refusal_is_final(error: MiniProgramError) -> None:
    store = FakeStore(due=[message()])
    relay(store, FakeHost(error=error)).run_once()
    assert store.finished == {1: f"refused {error.errcode}"}
    assert store.postponed == {}


@pytest.mark.parametrize(
    ("attempts", "pause"),
    [(1, timedelta(seconds=10)), (4, timedelta(seconds=80)), (30, timedelta(minutes=30))],
)
def test_busy_host_is_tried_again_ever_later(attempts: int, pause: timedelta) -> None:
    store = FakeStore(due=[message(attempts=attempts)])
    relay(store, FakeHost(error=MiniProgramBusyError(-1))).run_once()
    assert store.postponed == {1: NOW + pause}
    assert store.finished == {}


def test_one_failure_does_not_hold_up_the_next() -> None:
    store, host = FakeStore(due=[message(1, openid_cipher=None), message(2)]), FakeHost()
    assert relay(store, host).run_once() == 2
    assert store.finished == {1: "nobody to tell", 2: "sent"}


def test_database_that_is_away_is_waited_for() -> None:
    store, host, stop = FakeStore(due=[message(n) for n in range(51)], away=1), FakeHost(), threading.Event()
    thread = threading.Thread(target=relay(store, host).run_forever, args=(stop,))
    thread.start()
    for _ in range(100):
        if len(host.sent) == 51:
            break
        thread.join(0.05)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert len(host.sent) == 51
    assert store.claims >= 3


def test_fields_fit_the_host() -> None:
    body: dict[str, str | int] = {
        "amount_yuan": "1.00",
        "nozzle_no": 12,
        "product": "很长" * 20,
        "quantity": "1.00",
        "unit": "升",
        "station": "站" * 60,
        "receipt_no": "R" * 60,
    }
    fields = receipt_fields(body)
    assert max(len(fields["thing2"]), len(fields["thing4"])) == 20
    assert len(fields["character_string5"]) == 32


def test_a_message_that_cannot_be_opened_does_not_stop_the_others() -> None:
    def decrypt(cipher: str) -> str:
        if cipher == "bad":
            raise CipherError("unknown key")
        return cipher

    store, host = FakeStore(due=[message(1, openid_cipher="bad"), message(2)]), FakeHost()
    assert replace(relay(store, host), decrypt_openid=decrypt).run_once() == 2
    assert store.finished == {2: "sent"}
    assert store.postponed[1] > NOW
