"""What the API is given, and what it makes of it once; routes ask for these."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import Engine

from api.approval import Approvals
from api.auth.credentials import Credentials
from api.auth.logins import TRIES_PER_ADDRESS, Logins
from api.auth.tokens import AccessTokens
from api.commands import Commands
from api.database import Database
from api.middleware import Metrics
from api.notifications.receive import Receiver
from api.notifications.relay import Relay
from api.ports import Clock, MiniProgram, NotificationVerifier, TemporalGateway
from api.watch import OrderWatch
from db.announcements import changed_orders
from db.crypto import ColumnCipher


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDeps:
    """Everything the API is given; it reads no environment. `threads` must not exceed the engine's pool."""

    engine: Engine
    temporal: TemporalGateway
    mini_program: MiniProgram
    verifier: NotificationVerifier
    cipher: ColumnCipher
    clock: Clock
    jwt_secret: str
    nozzle_code_key: bytes
    sandbox: bool = False
    threads: int = 10
    login_tries_per_address: int = TRIES_PER_ADDRESS
    relay: bool = True
    """Whether this process also re-signals stored notifications that nobody handled."""


class Services:
    """The parts of one running app."""

    def __init__(self, deps: ApiDeps) -> None:
        self.deps = deps
        self.clock: Clock = deps.clock
        self.temporal = deps.temporal
        self.metrics = Metrics()
        self.db = Database(deps.engine, threads=deps.threads)
        tokens = AccessTokens(deps.jwt_secret)
        self.credentials = Credentials(self.db, tokens, deps.clock)
        self.logins = Logins(
            self.db,
            tokens,
            deps.mini_program,
            deps.cipher,
            deps.clock,
            tries_per_address=deps.login_tries_per_address,
        )
        self.commands = Commands(deps.temporal, self.db)
        self.pays = FixedWindowRateLimiter(MemoryStorage())
        self.approvals = Approvals(self.db, self.logins)
        self.watch = OrderWatch(self.db, announced=partial(changed_orders, deps.engine))
        self.receiver = Receiver(self.db, deps.verifier, deps.temporal, deps.clock)
        self.relay = Relay(self.db, self.receiver, deps.clock)
        self._relay_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin what runs beside requests."""
        if self.deps.relay:
            self._relay_task = asyncio.create_task(self.relay.run())

    async def stop(self) -> None:
        """End it; a message that is being handled is finished first."""
        self.relay.stop()
        await self.watch.close()
        if self._relay_task:
            await asyncio.wait([self._relay_task], timeout=5)
        self.db.close()

    def now(self) -> datetime:
        """Return the present time."""
        return self.clock()


async def services(request: Request) -> Services:
    """Return the services of the app that serves this request; async, or FastAPI would go to a thread for it."""
    found: Services = request.app.state.services
    return found


async def client_address(request: Request) -> str:
    """Return where a request comes from, for the limits of login tries."""
    return request.client.host if request.client else "unknown"


ServicesDep = Annotated[Services, Depends(services)]
ClientAddress = Annotated[str, Depends(client_address)]
