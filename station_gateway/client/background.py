"""What a fuelling point does by itself while nobody waits for it: nothing that goes wrong there goes unnoticed."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from station_gateway.client.health import broken
from station_gateway.client.link import DispenserLink, LinkError
from station_gateway.client.sales import PointKey
from station_gateway.protocols.ifsf.errors import IfsfError

log = structlog.get_logger(__name__)


class Background:
    """The running work of one point; `doubt` is called when its device says what cannot be read."""

    def __init__(self, *, key: PointKey, link: DispenserLink, doubt: Callable[[], None]) -> None:
        self._key, self._link, self._doubt = key, link, doubt
        self.tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin some work and return its task."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Whatever ends the work, the next connection reads everything again; nonsense is asked about again before."""
        try:
            await self.tried(work)
        except LinkError as error:
            log.info("point.interrupted", node=self._key.node, fp=self._key.fp, reason=str(error))
        except Exception as error:  # noqa: BLE001 - a full disk, say: start over as after a lost wire
            broken("point", error)
            self._link.close()

    async def tried(self, work: Awaitable[None]) -> None:
        """Do what reads the device; what cannot be read is asked about again later. Raises LinkError."""
        try:
            await work
        except IfsfError as error:
            log.error("point.unreadable", node=self._key.node, fp=self._key.fp, error=str(error))
            self._doubt()
