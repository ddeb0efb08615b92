"""Commands from the cloud: executed once, the result durable before it is sent, copies meet the stored one."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from contracts.station import AuthoriseCommand, CommandResult, CommandState, StopCommand
from station_gateway.client.authorise import answer
from station_gateway.client.lifetime import Lifetime
from station_gateway.client.outbox import Outbox

log = structlog.get_logger(__name__)

Command = AuthoriseCommand | StopCommand


class CommandDesk:
    """Takes commands in any number of copies and answers each id once."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        authorise: Callable[[AuthoriseCommand, Lifetime], Awaitable[CommandResult]],
        stop: Callable[[StopCommand], Awaitable[CommandResult]],
        on_result: Callable[[], None],
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._authorise = authorise
        self._stop = stop
        self._on_result = on_result
        self._now = now
        self._monotonic = monotonic
        self._running: dict[str, asyncio.Task[CommandResult]] = {}

    async def take(self, command: Command, ttl_s: int | None = None) -> CommandResult:
        """Execute a command, or return what it came to before; the result is stored and waits to be sent.

        `ttl_s` is how many seconds the command had left when it was handed to us, None when nobody said.
        """
        running = self._running.get(command.command_id)
        if running is not None:
            return await asyncio.shield(running)
        known = self._outbox.result_of(command.command_id)
        if known is not None:
            self._outbox.report_again(command.command_id)
            self._on_result()
            return known
        lifetime = Lifetime(command.expires_at, ttl_s, now=self._now, monotonic=self._monotonic)
        task = asyncio.get_running_loop().create_task(self._execute(command, lifetime))
        self._running[command.command_id] = task
        try:
            return await asyncio.shield(task)
        finally:
            del self._running[command.command_id]

    async def _execute(self, command: Command, lifetime: Lifetime) -> CommandResult:
        """Execute a command that is new, or that a crash cut off between its intent and its result.

        The second kind is never EXPIRED: the dispenser may be released, and only it can tell.
        """
        if lifetime.is_over and not self._outbox.is_open(command.command_id):
            result = answer(command, CommandState.EXPIRED, "EXPIRED")
        elif isinstance(command, AuthoriseCommand):
            result = await self._authorise(command, lifetime)
        else:
            result = await self._stop(command)
        if self._outbox.result_of(command.command_id) is None:
            self._outbox.add_result(result, int(self._now().timestamp() * 1000))
        log.info(
            "command.done",
            order=command.order_no,
            command=command.command_id,
            state=result.state.value,
            code=result.code,
        )
        self._on_result()
        return result
