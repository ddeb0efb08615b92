"""Waiting for orders to change: PostgreSQL announces a change, and one slow query for everybody is the safety net."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from api.database import Database
from api.errors import try_again
from db.announcements import Announcement, version_of
from db.repositories.views import versions

log = structlog.get_logger(__name__)

INTERVAL_S = 0.3
"""How often rows are read while no announcements arrive."""
LISTENING_INTERVAL_S = 3.0
"""How often rows are read beside announcements: one may be lost with its connection."""
_AGAIN_S = 1.0
MAX_WAITERS = 5_000
"""Waits of everybody in one process."""

Enough = Callable[[str, int], bool]
"""Says of an order's status and version whether a waiter has what it waits for."""
Announced = Callable[[], AsyncIterator[Announcement | None]]
"""Opens a stream of changes, None once at its beginning; it ends or raises when its connection breaks."""


@dataclass(eq=False, slots=True, kw_only=True)
class Waiter:
    """Somebody who waits for an order; enrolled before the order is read, so that no change falls in between."""

    order_no: str
    enough: Enough
    done: asyncio.Future[None]

    async def wait(self, seconds: float) -> None:
        """Return when the order has come far enough, at the latest after `seconds`."""
        await asyncio.wait([self.done], timeout=seconds)


class OrderWatch:
    """Wakes waiters when their order has come far enough; polls only while somebody waits."""

    def __init__(
        self, db: Database, *, interval_s: float = INTERVAL_S, announced: Announced | None = None
    ) -> None:
        """Take the database and, where there is one, the source of announcements."""
        self._db, self._interval_s, self._announced = db, interval_s, announced
        self._waiters: dict[str, set[Waiter]] = {}
        self._callers: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._listening = False

    @contextmanager
    def waiting(
        self, order_no: str, enough: Enough, *, caller: str = "", at_most: int = MAX_WAITERS
    ) -> Iterator[Waiter]:
        """Enrol a waiter of a caller for as long as the block runs.

        Raises ProblemError 503 when the caller has `at_most` waits, or everybody together MAX_WAITERS.
        """
        self.check_room(caller, at_most)
        waiter = Waiter(order_no=order_no, enough=enough, done=asyncio.get_running_loop().create_future())
        self._waiters.setdefault(order_no, set()).add(waiter)
        self._callers[caller] += 1
        self._ensure_running()
        try:
            yield waiter
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]
            others = self._waiters[order_no]
            others.discard(waiter)
            if not others:
                del self._waiters[order_no]

    def check_room(self, caller: str, at_most: int) -> None:
        """Raise ProblemError 503 with `Retry-After: 1` when one more wait of this caller is too many.

        Never answered at once instead: a client that waits in a loop would then keep us and itself busy.
        """
        if self._callers[caller] >= at_most or self._callers.total() >= MAX_WAITERS:
            log.warning("api.watch.full", caller=caller, waiting=self._callers.total())
            raise try_again("等待的请求过多，请稍后再试", after_s=1)

    def _ensure_running(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        if self._announced is not None and self._listener is None:
            self._listener = asyncio.create_task(self._listen(self._announced))

    async def _listen(self, announced: Announced) -> None:
        """Wake who waits for an announced order; the route then reads the row. Connects again for ever."""
        while True:
            try:
                async for change in announced():
                    self._listening = True
                    if change is not None:
                        self._wake(change)
            except Exception as error:  # noqa: BLE001 - whatever broke, the slow query goes on and we connect again
                log.warning("api.watch.deaf", error=type(error).__name__)
            self._listening = False
            await asyncio.sleep(_AGAIN_S)

    async def _poll(self) -> None:
        while self._waiters:
            await asyncio.sleep(LISTENING_INTERVAL_S if self._listening else self._interval_s)
            numbers = sorted(self._waiters)
            if numbers:
                await self._look(numbers)

    async def _look(self, numbers: list[str]) -> None:
        try:
            found = await self._db.read(partial(versions, order_nos=numbers))
        except Exception:  # noqa: BLE001 - a broken database must not end the watch; waiters time out
            log.warning("api.watch.failed", waiting=self._callers.total())
            return
        for order_no, (status, updated_at) in found.items():
            self._wake(Announcement(order_no=order_no, status=status, version=version_of(updated_at)))

    def _wake(self, change: Announcement) -> None:
        for waiter in self._waiters.get(change.order_no, ()):
            if not waiter.done.done() and waiter.enough(change.status, change.version):
                waiter.done.set_result(None)

    async def close(self) -> None:
        """Let everybody go who still waits."""
        for waiter in [w for group in self._waiters.values() for w in group]:
            if not waiter.done.done():
                waiter.done.set_result(None)
        for task in (self._task, self._listener):
            if task:
                task.cancel()
