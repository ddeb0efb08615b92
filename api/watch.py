"""Waiting for orders to change: PostgreSQL announces a change, and one slow query for everybody is the safety net."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from api.database import Database
from db.repositories.views import updated_at

log = structlog.get_logger(__name__)

INTERVAL_S = 0.3
"""How often rows are read while no announcements arrive."""
LISTENING_INTERVAL_S = 3.0
"""How often rows are read beside announcements: one may be lost with its connection."""
_AGAIN_S = 1.0
MAX_WAITERS = 5_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def version_of(moment: datetime) -> int:
    """Return a row's `updated_at` as a whole number that clients hand back: microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


Announced = Callable[[], AsyncIterator[str]]
"""Opens a stream of order numbers that changed; it ends or raises when its connection breaks."""


@dataclass(eq=False, slots=True, kw_only=True)
class _Waiter:
    order_no: str
    version: int
    done: asyncio.Future[None]


class OrderWatch:
    """Wakes waiters when their order's row has another version; polls only while somebody waits."""

    def __init__(
        self, db: Database, *, interval_s: float = INTERVAL_S, announced: Announced | None = None
    ) -> None:
        """Take the database and, where there is one, the source of announcements (an order number each)."""
        self._db, self._interval_s, self._announced = db, interval_s, announced
        self._waiters: set[_Waiter] = set()
        self._task: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._listening = False

    async def wait(self, order_no: str, version: int, seconds: int) -> None:
        """Return when the order's version is no longer `version`, at the latest after `seconds`.

        Returns at once when too many wait already: the client then polls.
        """
        if seconds <= 0 or len(self._waiters) >= MAX_WAITERS:
            return
        waiter = _Waiter(order_no=order_no, version=version, done=asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        if self._announced is not None and self._listener is None:
            self._listener = asyncio.create_task(self._listen(self._announced))
        try:
            await self._look([order_no])  # it may have changed between the caller's reading and now
            await asyncio.wait_for(waiter.done, seconds)
        except TimeoutError:
            return
        finally:
            self._waiters.discard(waiter)

    async def _listen(self, announced: Announced) -> None:
        """Wake who waits for an announced order; the route then reads the row. Connects again for ever."""
        while True:
            try:
                async for order_no in announced():
                    self._listening = True
                    for waiter in [w for w in self._waiters if w.order_no == order_no]:
                        if not waiter.done.done():
                            waiter.done.set_result(None)
            except Exception as error:  # noqa: BLE001 - whatever broke, the slow query goes on and we connect again
                log.warning("api.watch.deaf", error=type(error).__name__)
            self._listening = False
            await asyncio.sleep(_AGAIN_S)

    async def _poll(self) -> None:
        while self._waiters:
            await asyncio.sleep(LISTENING_INTERVAL_S if self._listening else self._interval_s)
            numbers = sorted({w.order_no for w in self._waiters})
            if not numbers:
                return
            await self._look(numbers)

    async def _look(self, numbers: list[str]) -> None:
        try:
            found = await self._db.read(partial(updated_at, order_nos=numbers))
        except Exception:  # noqa: BLE001 - a broken database must not end the watch; waiters time out
            log.warning("api.watch.failed", waiting=len(self._waiters))
            return
        self._wake({number: version_of(at) for number, at in found.items()})

    def _wake(self, versions: dict[str, int]) -> None:
        for waiter in list(self._waiters):
            if versions.get(waiter.order_no, waiter.version) != waiter.version and not waiter.done.done():
                waiter.done.set_result(None)

    async def close(self) -> None:
        """Let everybody go who still waits."""
        for waiter in list(self._waiters):
            if not waiter.done.done():
                waiter.done.set_result(None)
        for task in (self._task, self._listener):
            if task:
                task.cancel()
