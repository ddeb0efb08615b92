"""Passes on stored notifications that could not be passed on when they came: Temporal was away, or we crashed.

Several API processes may relay at once: rows are locked while they are handled and others skip them. A row that
cannot be handled is counted, logged with its id, and comes after all that failed less often.
"""

import asyncio
import json
import secrets
from concurrent.futures import CancelledError
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from api.database import Database
from api.notifications.receive import Receiver
from api.ports import ChannelNotification, Clock, TemporalAwayError
from db.repositories import inbox
from db.repositories.inbox import SOURCE_WECHAT, OpenMessage

log = structlog.get_logger(__name__)

GRACE = timedelta(seconds=5)
"""A younger message is still being handled by the request that brought it."""
BATCH = 20
INTERVAL_S = 2
HANDLE_LIMIT_S = 8
_FIELDS = tuple(ChannelNotification.__dataclass_fields__)


class Relay:
    """The loop; `drain` is one round of it."""

    def __init__(self, db: Database, receiver: Receiver, clock: Clock) -> None:
        self._db, self._receiver, self._clock = db, receiver, clock
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Relay until stopped; a round that fails is logged and the next one comes."""
        while not self._stopped.is_set():
            try:
                await self.drain()
            except Exception as error:  # noqa: BLE001 - the loop must outlive a database that is away
                log.warning("api.relay.failed", kind=type(error).__name__)
            jitter_ms = secrets.randbelow(500)
            try:
                await asyncio.wait_for(self._stopped.wait(), INTERVAL_S + jitter_ms / 1000)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Ask the loop to end after its round."""
        self._stopped.set()

    async def drain(self) -> int:
        """Handle one batch of open messages; return how many were handled."""
        loop = asyncio.get_running_loop()
        return await self._db.run(lambda conn: self._round(conn, loop))

    def _round(self, conn: Connection, loop: asyncio.AbstractEventLoop) -> int:
        now = self._clock()
        handled = 0
        for message in inbox.lock_open(conn, SOURCE_WECHAT, before=now - GRACE, limit=BATCH):
            if self._stopped.is_set():
                break
            # Counted outside the savepoint: whatever the row does, it comes after the others the next time.
            inbox.count_attempts(conn, SOURCE_WECHAT, [message.external_id])
            try:
                with conn.begin_nested():
                    outcome = self._handle(conn, loop, message)
                    inbox.mark_handled(conn, SOURCE_WECHAT, message.external_id, outcome=outcome, now=now)
            except (TemporalAwayError, TimeoutError, CancelledError):
                log.warning("api.relay.waiting", id=message.external_id, attempts=message.attempts + 1)
                break  # the rest of the batch would only wait in vain
            except Exception as error:  # noqa: BLE001 - one row that cannot be handled must not keep the others
                _log_refused(message, error)
                continue
            handled += 1
        return handled

    def _handle(self, conn: Connection, loop: asyncio.AbstractEventLoop, message: OpenMessage) -> str:
        """Return the outcome; raises whatever a row from another version, a database or Temporal may cause."""
        content = json.loads(message.body)
        note = ChannelNotification(**{name: content[name] for name in _FIELDS})
        facts = inbox.attempt_facts(conn, note.out_trade_no)
        future = asyncio.run_coroutine_threadsafe(self._receiver.handle(note, facts), loop)
        try:
            return future.result(HANDLE_LIMIT_S)
        finally:
            future.cancel()


def _log_refused(message: OpenMessage, error: Exception) -> None:
    """Say which row it is: at the first tries, then ever more seldom, for it is tried again for ever."""
    attempts = message.attempts + 1
    if attempts & (attempts - 1) == 0:
        log.error("api.relay.refused", id=message.external_id, kind=type(error).__name__, attempts=attempts)
