"""Bounded lanes of threads for blocking work, so that what is slow in one makes nobody else wait.

Work that finds its lane full is refused at once: a queue that grows only answers people who have gone.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from api.errors import try_again

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Lane:
    """Threads of one kind of work, and a queue of a fixed length before them."""

    def __init__(self, name: str, *, threads: int, queued: int) -> None:
        self._name = name
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=f"api-{name}")
        self._places = threading.BoundedSemaphore(threads + queued)

    async def call(self, work: Callable[[], T]) -> T:
        """Run blocking work in a thread of this lane; raises ProblemError 503 `try_again` when the lane is full."""
        if not self._places.acquire(blocking=False):
            log.warning("api.lane.full", lane=self._name)
            raise try_again("稍后重试")
        try:
            future = self._threads.submit(contextvars.copy_context().run, work)
        except RuntimeError:
            self._places.release()
            raise
        # Released when the thread is free, not when the caller is gone: a caller may give up on a slow host.
        future.add_done_callback(lambda _future: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the threads; what waits in the queue is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
