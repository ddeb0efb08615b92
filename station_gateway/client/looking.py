"""Looking again by oneself: what nobody reported, or what could not be read, is asked about after a pause."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from station_gateway.protocols.ifsf.errors import IfsfError

log = structlog.get_logger(__name__)

LONGEST_PAUSE_S = 60.0


class LaterLook:
    """One look at a time, again and again with growing pauses as long as `is_needed` says so."""

    def __init__(
        self,
        *,
        is_needed: Callable[[], bool],
        look: Callable[[], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        first_s: float,
    ) -> None:
        self._is_needed, self._look, self._spawn, self._first_s = is_needed, look, spawn, first_s
        self._anew = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Look soon, if it is needed; a look that waits through a long pause is woken."""
        if not self._is_needed():
            return
        if self._task is None or self._task.done():
            self._task = self._spawn(self._run())
        else:
            self._anew.set()

    async def _run(self) -> None:
        """Look until it is not needed; a look that could not read the device is no reason to give up."""
        pause = self._first_s
        while self._is_needed():
            self._anew.clear()
            try:
                await asyncio.wait_for(self._anew.wait(), pause)
                pause = self._first_s
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE_S)
            try:
                await self._look()
            except IfsfError as error:
                log.error("point.unreadable", error=str(error))
