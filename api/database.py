"""Synchronous work in bounded sets of threads, so that the event loop never waits: PostgreSQL, hosts, password hashes.

Each kind has threads of its own. When WeChat is slow, logins wait for it and the counter does not.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine

from api.lanes import Lane

T = TypeVar("T")

HOST_THREADS, HOST_QUEUE = 8, 32
PASSWORD_THREADS, PASSWORD_QUEUE = 4, 64
"""An Argon2id check takes 64 MiB and some 50 ms of a core."""
SHORT_THREADS, SHORT_QUEUE = 4, 256


class Database:
    """Runs functions of a connection in threads; as many threads as the pool has connections.

    `hosts` is for calls that wait for somebody else's server, `passwords` for Argon2.
    """

    def __init__(self, engine: Engine, *, threads: int) -> None:
        self._engine = engine
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="api-db")
        self.hosts = Lane("hosts", threads=HOST_THREADS, queued=HOST_QUEUE)
        self.passwords = Lane("passwords", threads=PASSWORD_THREADS, queued=PASSWORD_QUEUE)
        self._short = Lane("short", threads=SHORT_THREADS, queued=SHORT_QUEUE)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction: committed when it returns, rolled back when it raises."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, context.run, self._in_transaction, work)

    def _in_transaction(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run queries without a transaction: each sees its own moment, and none costs a BEGIN and a COMMIT."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, context.run, self._without_transaction, work)

    async def run_single(self, work: Callable[[Connection], T]) -> T:
        """Run one statement that changes something; PostgreSQL commits it by itself."""
        return await self.read(work)

    def _without_transaction(self, work: Callable[[Connection], T]) -> T:
        with self._reading.connect() as connection:
            return work(connection)

    async def call(self, work: Callable[[], T]) -> T:
        """Run short work that waits for nobody (check a signature, draw a picture)."""
        return await self._short.call(work)

    def close(self) -> None:
        """End the threads and the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for lane in (self.hosts, self.passwords, self._short):
            lane.close()
        self._engine.dispose()
