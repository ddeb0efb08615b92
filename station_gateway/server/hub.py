"""Commands down: stored, pushed into the station's long poll, answered by the edge or by UNKNOWN.

A command stays queued until the edge has answered, however late: that verdict, not our guess, lets the order go
on, because the answer to an earlier copy may be lost while the pump is open. Once expired, it is handed out only
as a question (expiry in 1970, no seconds left), which the edge answers by what it did or by EXPIRED.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import structlog
from prometheus_client import Counter, Gauge

from contracts.station import AuthoriseCommand, CommandResult, CommandState
from db.repositories.gateway import LinkState, StoredCommand
from station_gateway.protocols.uplink.bodies import (
    MAX_BODY,
    BodyError,
    Command,
    command_body,
    commands_body,
    dumps,
    loads,
    parse_command,
    parse_result,
    result_body,
    whole,
)
from station_gateway.server.ports import Desk, DeskError, Store

log = structlog.get_logger(__name__)

ANSWER_MARGIN = timedelta(seconds=10)
"""How long after its expiry a command's answer may still come before it is UNKNOWN."""
MOST_HOLD_S = 25.0
_PER_ANSWER = MAX_BODY // 180
_UNKNOWN_MARK = f'"s":"{CommandState.UNKNOWN.value}"'

COMMANDS = Counter("jiazhu_gateway_commands", "Commands by their end", ["state"])
LINKS = Gauge("jiazhu_gateway_stations_polling", "Stations whose long poll is open")


class HubStoppedError(Exception):
    """The server is stopping: the station asks again, and meets the next one."""


class StationSession:
    """What the server knows of one station while it runs."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.boot = 0
        self.loaded = False
        self.queue: dict[str, Command] = {}
        self.sent_at: dict[str, float] = {}
        self.waiter: asyncio.Future[None] | None = None
        self.link: LinkState | None = None
        self.link_stored_at: float = -1e9

    def wake(self) -> None:
        """End the open long poll."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class CommandHub:
    """All stations of the shard."""

    def __init__(
        self,
        store: Store,
        desk: Desk,
        *,
        now: Callable[[], datetime],
        redeliver_s: float = 5.0,
        link_every_s: float = 5.0,
        relay_every_s: float = 5.0,
        margin: timedelta = ANSWER_MARGIN,
    ) -> None:
        self._store = store
        self._desk = desk
        self._now = now
        self._redeliver_s = redeliver_s
        self._link_every_s = link_every_s
        self._relay_every_s = relay_every_s
        self._margin = margin
        self._late = asyncio.Event()
        self._sessions: dict[str, StationSession] = {}
        self._answers: dict[str, asyncio.Future[CommandResult]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def start(self) -> None:
        """Begin to tell late results."""
        self._spawn(self._relay())

    async def stop(self) -> None:
        """Answer all long polls and hold no other: a station would wait for a poll that nobody remembers."""
        self._stopping = True
        for session in self._sessions.values():
            session.wake()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _session(self, station_code: str) -> StationSession:
        return self._sessions.setdefault(station_code, StationSession(station_code))

    # -- from the activity ---------------------------------------------------------------------------

    async def send(self, command: Command) -> CommandResult:
        """Store and send a command and return the edge's answer, or UNKNOWN when none comes in time.

        A second call with the same command id finds the first one's row, and its result when there is one.
        """
        kind = "authorise" if isinstance(command, AuthoriseCommand) else "stop"
        row = StoredCommand(
            command_id=command.command_id,
            station_code=command.station_code,
            order_no=command.order_no,
            kind=kind,
            body=dumps(command_body(command)),
            expires_at=command.expires_at,
        )
        answer = self._answers.get(command.command_id)
        if answer is None or answer.done():
            answer = asyncio.get_running_loop().create_future()
            self._answers[command.command_id] = answer
        try:
            known = await asyncio.to_thread(self._store.store_command, row, self._now())
            if known is not None:
                return parse_result(loads(known.encode()))
            self._push(command)
            result = await self._await(answer, command.expires_at + self._margin)
        finally:
            if self._answers.get(command.command_id) is answer:
                del self._answers[command.command_id]
        if result is None:
            log.warning("gateway.command.unanswered", order=command.order_no, command=command.command_id)
            result = CommandResult(
                command_id=command.command_id,
                order_no=command.order_no,
                state=CommandState.UNKNOWN,
                code="NO_ANSWER",
            )
        COMMANDS.labels(result.state.value).inc()
        return result

    async def _await(self, answer: asyncio.Future[CommandResult], until: datetime) -> CommandResult | None:
        left_s = (until - self._now()).total_seconds()
        await asyncio.wait({answer}, timeout=max(0.0, left_s))
        return answer.result() if answer.done() else None

    def _push(self, command: Command) -> None:
        session = self._session(command.station_code)
        if command.command_id not in session.queue:
            session.queue[command.command_id] = command
            session.wake()

    # -- from the station ------------------------------------------------------------------------------

    async def exchange(self, station_code: str, body: bytes) -> bytes:
        """Take a station's results, hold the answer until there is a command. Raises BodyError, HubStoppedError."""
        if self._stopping:
            raise HubStoppedError
        values = loads(body)
        try:
            boot, depth, hold_s = whole(values["b"]), whole(values["n"]), whole(values["w"]) / 1000
            results = [parse_result(one) for one in values.get("r", [])]
        except (KeyError, TypeError, ValueError) as error:
            raise BodyError("not an exchange") from error
        session = self._session(station_code)
        if not session.loaded:
            await self._load(session)
        if session.boot != boot:
            session.boot = boot
            session.sent_at.clear()
        if results:
            await self._take_results(session, results)
        await self.seen(station_code, depth)
        commands = self._due(session)
        if not commands and hold_s > 0:
            await self._hold(session, min(hold_s, MOST_HOLD_S))
            commands = self._due(session)
        return commands_body(commands, self._now())

    async def _load(self, session: StationSession) -> None:
        """After a start of the server: commands that an earlier process stored and nobody answered."""
        for row in await asyncio.to_thread(self._store.open_commands, session.code):
            if row.command_id not in session.queue:
                session.queue[row.command_id] = parse_command(session.code, loads(row.body.encode()))
        session.loaded = True

    def _due(self, session: StationSession) -> list[Command]:
        """Return queued commands that were not sent, or sent long ago without a result."""
        now = asyncio.get_running_loop().time()
        due = []
        for command_id, command in session.queue.items():
            if now - session.sent_at.get(command_id, -1e9) >= self._redeliver_s:
                session.sent_at[command_id] = now
                due.append(command)
                if len(due) == _PER_ANSWER:
                    break
        return due

    async def _hold(self, session: StationSession, hold_s: float) -> None:
        """Wait for a command; a newer poll of the same station ends the older one."""
        session.wake()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        session.waiter = waiter
        LINKS.inc()
        if session.queue:
            hold_s = min(hold_s, self._redeliver_s)
        try:
            await asyncio.wait({waiter}, timeout=hold_s)
        finally:
            LINKS.dec()
            if session.waiter is waiter:
                session.waiter = None

    async def _take_results(self, session: StationSession, results: list[CommandResult]) -> None:
        rows = [(one.command_id, result_body(one), self._answer(session, one)) for one in results]
        await asyncio.to_thread(self._store.store_results, session.code, rows, _UNKNOWN_MARK, self._now())
        if not all(told for _, _, told in rows):
            self._late.set()
        for result in results:
            self._answer(session, result)
            session.queue.pop(result.command_id, None)
            session.sent_at.pop(result.command_id, None)

    def _answer(self, session: StationSession, result: CommandResult) -> bool:
        """Hand a result of the station's own command to whoever waits for it; return whether somebody did.

        Before the commit, because one who gives up during it would count as told and hear nothing; after it again,
        for one who came during it. When the commit fails, the station sends the result again.
        """
        answer = self._answers.get(result.command_id)
        if result.command_id not in session.queue or answer is None or answer.done():
            return False
        answer.set_result(result)
        return True

    async def seen(self, station_code: str, depth: int) -> None:
        """Note that a station is alive; stored at most every few seconds."""
        session = self._session(station_code)
        session.link = LinkState(
            station_code=station_code, last_seen_at=self._now(), boot_epoch=session.boot, outbox_depth=depth
        )
        now = asyncio.get_running_loop().time()
        if now - session.link_stored_at >= self._link_every_s:
            session.link_stored_at = now
            await asyncio.to_thread(self._store.put_links, [session.link])

    # -- late results ------------------------------------------------------------------------------------

    async def _relay(self) -> None:
        while True:
            try:
                await self._relay_once()
            except Exception as error:  # noqa: BLE001 - the database may be away; the relay must outlive it
                log.warning("gateway.results.relay_failed", error=str(error))
            try:
                async with asyncio.timeout(self._relay_every_s):
                    await self._late.wait()
            except TimeoutError:
                continue
            self._late.clear()

    async def _relay_once(self) -> None:
        stations: Iterable[str] = tuple(self._sessions)
        late = await asyncio.to_thread(self._store.untold, stations, before=self._now(), limit=100)
        for command_id, body in late:
            try:
                await self._desk.tell_result(parse_result(loads(body.encode())))
            except DeskError as error:
                log.warning("gateway.result.untold", command=command_id, reason=str(error))
                continue
            await asyncio.to_thread(self._store.mark_told, command_id, body, self._now())
