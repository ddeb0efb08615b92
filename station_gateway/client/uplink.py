"""The way to the cloud: sales up until they are acknowledged, commands down by long poll.

Delivery is at least once with idempotent effect: the outbox repeats a sale until the server has stored it, and
the server stores it once by its natural key. Order is kept per dispenser; different dispensers overtake each
other. States and running values are only coalesced, never queued. The long poll is also what keeps the UDP
mapping of a NAT alive (at least one datagram in 20 s).
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import structlog

from contracts.station import CommandResult, PointReport
from station_gateway.client.config import ClientConfig
from station_gateway.client.health import WAITING, broken, keep_running, pause_s
from station_gateway.client.outbox import Outbox, PendingEvent
from station_gateway.protocols.uplink.bodies import (
    COMMANDS_PATH,
    EVENTS_PATH,
    MAX_BODY,
    BodyError,
    Command,
    events_body,
    exchange_body,
    loads,
    parse_command,
    parse_ttl_s,
    report_body,
)

log = structlog.get_logger(__name__)

PARALLEL = 4
"""Batches on their way at once; OSCORE's replay window allows 16 and no more."""
WINDOW = 64
RESULTS_PER_MESSAGE = 4
FIRST_RESULT_WAIT_S = 0.05
"""How long the next poll waits for a result to take along; later ones travel alone."""


class UplinkError(Exception):
    """The server did not answer, or not with success; the message counts as not delivered."""


class Poster(Protocol):
    """Sends one request to the server."""

    async def post(self, path: str, body: bytes, *, wait_s: float = 0.0) -> bytes:
        """Return the answer's body; `wait_s` is how long the server may hold it. Raises UplinkError."""
        ...


@dataclass(frozen=True, slots=True)
class _Batch:
    events: tuple[PendingEvent, ...]
    states: tuple[PointReport, ...]

    @property
    def devices(self) -> frozenset[str]:
        return frozenset(event.device for event in self.events)


class Uplink:
    """Both directions over one `Poster`."""

    def __init__(
        self,
        config: ClientConfig,
        outbox: Outbox,
        poster: Poster,
        *,
        take: Callable[[Command, int | None], Coroutine[Any, Any, CommandResult]],
        reports: Callable[[], list[PointReport]],
        boot: int,
        now: Callable[[], datetime],
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._poster = poster
        self._take = take
        self._reports = reports
        self._boot = boot
        self._now = now
        self._wake = asyncio.Event()
        self._result_ready = asyncio.Event()
        self._slots = asyncio.Semaphore(PARALLEL)
        self._busy: set[str] = set()
        self._told: dict[tuple[int, int], PointReport] = {}
        self._states_due = False
        self._states_timer: asyncio.TimerHandle | None = None
        self._sending: set[str] = set()
        self._failures = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to send and to poll; what waited in the outbox goes first."""
        self._wake.set()
        self._keep("uplink events", self._send_events)
        self._keep("uplink commands", self._exchange_commands)
        self._states_now()

    async def stop(self) -> None:
        """Stop; whatever was not acknowledged stays in the outbox."""
        if self._states_timer is not None:
            self._states_timer.cancel()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def changed(self) -> None:
        """A sale was stored or a state changed: sales go at once, states at most every report interval."""
        self._wake.set()
        if self._states_timer is None:
            loop = asyncio.get_running_loop()
            self._states_timer = loop.call_later(self._config.report_interval_s, self._states_now)

    def result_ready(self) -> None:
        """A command's result was stored."""
        self._result_ready.set()

    def _states_now(self) -> None:
        self._states_timer = None
        self._states_due = True
        self._wake.set()

    def _keep(self, part: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        first_s, most_s = self._config.backoff_first_s, self._config.backoff_most_s
        self._spawn(part, keep_running(part, loop, first_s=first_s, most_s=most_s))

    def _spawn(self, part: str, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(part, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, part: str, work: Coroutine[Any, Any, Any]) -> None:
        """Sales stay in the outbox and commands come again, so one that broke is reported and met again."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever broke, the uplink goes on
            broken(part, error)

    def _now_ms(self) -> int:
        return int(self._now().timestamp() * 1000)

    def _delay_s(self) -> float:
        """Exponential backoff with jitter, so that a thousand stations do not come back in one instant."""
        first, most = self._config.backoff_first_s, self._config.backoff_most_s
        return pause_s(self._failures, first, most) * random.uniform(0.5, 1.0)

    # -- up --------------------------------------------------------------------------------------------------------

    async def _send_events(self) -> None:
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while True:
                await self._slots.acquire()
                try:
                    batch = self._next_batch()
                except BaseException:
                    self._slots.release()
                    raise
                if batch is None:
                    self._slots.release()
                    break
                self._busy |= batch.devices
                self._spawn("uplink delivery", self._deliver(batch))

    def _next_batch(self) -> _Batch | None:
        """Pack what fits one datagram: events in order, leaving out devices that have one on its way."""
        room = MAX_BODY - 20
        events: list[PendingEvent] = []
        for event in self._outbox.pending(WINDOW, self._busy):
            room -= len(event.body) + 1
            if room < 0 and events:
                break
            events.append(event)
        states = self._changed_states(room)
        return _Batch(tuple(events), states) if events or states else None

    def _changed_states(self, room: int) -> tuple[PointReport, ...]:
        if not self._states_due:
            return ()
        chosen: list[PointReport] = []
        for report in self._reports():
            if self._told.get((report.node, report.fp)) == report:
                continue
            room -= len(report_body(report)) + 1
            if room < 0:
                self._wake.set()
                return tuple(chosen)
            chosen.append(report)
        self._states_due = False
        return tuple(chosen)

    async def _deliver(self, batch: _Batch) -> None:
        seqs = [event.seq for event in batch.events]
        body = events_body((event.body for event in batch.events), map(report_body, batch.states))
        for report in batch.states:
            self._told[report.node, report.fp] = report
        try:
            await self._poster.post(EVENTS_PATH, body)
            if seqs:
                self._outbox.acknowledge(seqs, self._now_ms())
            self._failures = 0
        except Exception as error:  # noqa: BLE001 - not delivered, or not marked: it goes again after a pause
            self._failures += 1
            log.info("uplink.not_delivered", events=len(seqs), failures=self._failures, reason=str(error))
            if not isinstance(error, UplinkError):
                broken("uplink delivery", error)
            for report in batch.states:
                self._told.pop((report.node, report.fp), None)
            await asyncio.sleep(self._delay_s())
            self._states_due = True
            if seqs:
                self._outbox.count_attempt(seqs)
        finally:
            self._busy -= batch.devices
            self._slots.release()
            self._wake.set()

    # -- down ------------------------------------------------------------------------------------------------------

    async def _exchange_commands(self) -> None:
        poll: asyncio.Task[bool] | None = None
        loop = asyncio.get_running_loop()
        try:
            while True:
                if poll is None:
                    poll = loop.create_task(self._exchange(self._config.poll_hold_s))
                ready = loop.create_task(self._result_ready.wait())
                try:
                    await asyncio.wait({poll, ready}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    ready.cancel()
                if poll.done():
                    got_commands, poll = poll.result(), None
                    if got_commands:
                        await self._await_result()
                    continue
                self._result_ready.clear()
                await self._exchange(0.0)
        finally:
            if poll is not None:
                poll.cancel()

    async def _await_result(self) -> None:
        try:
            async with asyncio.timeout(FIRST_RESULT_WAIT_S):
                await self._result_ready.wait()
        except TimeoutError:
            return
        self._result_ready.clear()

    async def _exchange(self, hold_s: float) -> bool:
        """Send results, receive commands; return whether there were any. Backs off by itself when it fails."""
        results = [one for one in self._outbox.unreported(RESULTS_PER_MESSAGE) if one[0] not in self._sending]
        if not results and not hold_s:
            return False
        ids = {command_id for command_id, _ in results}
        self._sending |= ids
        more = len(results) == RESULTS_PER_MESSAGE
        hold_s = 0.0 if more else hold_s
        try:
            depth = self._outbox.depth()
            WAITING.set(depth)
            body = exchange_body(self._boot, depth, (text for _, text in results), int(hold_s * 1000))
            answer = await self._poster.post(COMMANDS_PATH, body, wait_s=hold_s)
            commands = self._commands(answer)
        except UplinkError as error:
            self._failures += 1
            log.info("uplink.no_commands", failures=self._failures, reason=str(error))
            await asyncio.sleep(self._delay_s())
            return False
        finally:
            self._sending -= ids
        self._failures = 0
        for command, ttl_s in commands:
            self._spawn("command", self._take(command, ttl_s))
        if results:
            self._outbox.mark_reported(results, self._now_ms())
        if more:
            self._result_ready.set()
        return bool(commands)

    def _commands(self, answer: bytes) -> list[tuple[Command, int | None]]:
        """Return each command with the seconds that it has left. Raises UplinkError."""
        try:
            listed = loads(answer).get("c", [])
            return [(parse_command(self._config.station_code, one), parse_ttl_s(one)) for one in listed]
        except (BodyError, TypeError) as error:
            raise UplinkError(f"unreadable commands: {error}") from error
