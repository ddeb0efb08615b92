"""Random fills at a pump whose board tells the truth, only late: every litre is told once, to whom it belongs.

Time is the loop's own: it jumps to the next thing that waits, so that hours take a second.
"""

import asyncio
import random
import selectors
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.station import CommandState
from station_gateway.client import authorise as commands
from station_gateway.client.lifetime import Lifetime
from station_gateway.client.link import LinkError
from station_gateway.client.point import Point
from station_gateway.protocols.ifsf.messages import Message
from station_gateway.protocols.uplink.bodies import loads
from tests.unit.station_gateway.hostile_device import AUTHORISED, IDLE, NOW, Device, point_of
from tests.unit.station_gateway.lagging_device import INOPERATIVE
from tests.unit.station_gateway.test_point import authorise_command, stop_command
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable, state

SETTLE_RETRY_S = 1.0
SIZES = (27_210, 27_210, 5_000, 6_804, 27_943, 900)
"""Thousandths of a litre; equal ones follow each other often."""


class JumpingClock(selectors.SelectSelector):
    """Waits for nothing: the time that a loop wants to wait has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10_000.0

    def select(self, timeout: float | None = None) -> Any:
        """Let the time pass."""
        self.now += timeout or 0.0
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop that lives by a jumping clock."""

    def __init__(self) -> None:
        self.clock = JumpingClock()
        super().__init__(self.clock)

    def time(self) -> float:
        """Return the seconds of its clock."""
        return self.clock.now


class LateBoard(Device):
    """Counts and writes what it delivered up to `lag_s` after the pump is at rest, in no certain order."""

    def __init__(self, choice: random.Random) -> None:
        super().__init__()
        self.choice = choice
        self.lag_s = choice.choice((0.0, 1.0, 1.9))
        self.tells_total_after = choice.random() < 0.5
        self.milli, self.number = 1_000_000, 0
        self.point: Point | None = None
        self.truth: list[tuple[int, int, str | None]] = []

    async def _while_connected(self, answer: Callable[[], Awaitable[Message]]) -> Message:
        await asyncio.sleep(self.choice.choice((0.0, 0.01, 0.05)))
        if self.point is None:
            raise LinkError("the wire is gone")
        return await answer()

    async def read(self, database: bytes, ids: bytes) -> Message:
        """Answer a little later."""
        return await self._while_connected(lambda: super(LateBoard, self).read(database, ids))

    async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
        """Do it a little later."""
        return await self._while_connected(lambda: super(LateBoard, self).write(database, *items))

    def becomes(self, number: int) -> None:
        """Take a state and report it."""
        self.state = number
        self.tells(state(number))

    def tells(self, message: Message) -> None:
        """Report something, if the wire is there."""
        if self.point is not None:
            self.point.heard(message)

    async def fill(self, milli: int, order_no: str | None) -> None:
        """Deliver fuel; the record cuts it off at hundredths of a litre."""
        self.becomes(FUELLING)
        await asyncio.sleep(self.choice.choice((1.0, 4.0)))
        if self.choice.random() < 0.2:
            self.becomes(INOPERATIVE)  # it lost its dispenser, and has it back in the fill or after it
            await asyncio.sleep(self.choice.choice((0.5, 4.0, 10.0)))
            if self.choice.random() < 0.5:
                self.becomes(FUELLING)
                await asyncio.sleep(1.0)
        self.milli += milli
        self.number += 1
        total, number = self.milli // 10 * 10, self.number
        self.truth.append((number, milli // 10 * 10, order_no))
        self.becomes(IDLE)

        def writes() -> None:
            self.buffer.append((number, milli // 10 * 7, milli // 10, total))
            self.tells(payable(number))

        loop = asyncio.get_running_loop()
        loop.call_later(self.choice.uniform(0, self.lag_s), setattr, self, "total", self.meter(total))
        loop.call_later(self.choice.uniform(0, self.lag_s), writes)


class Forecourt:
    """One pump, the client at it, and the people who use it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.choice, self.folder = random.Random(seed), folder
        self.board = LateBoard(self.choice)
        self.unused: list[str] = []
        self.point = self._connected()

    def _connected(self) -> Point:
        point = point_of(self.board, self.folder)
        point._settle_retry_s = point._buffer._retry_s = point._later._first_s = SETTLE_RETRY_S
        point.now = lambda: NOW + timedelta(seconds=time.monotonic())
        for opened in point.outbox.authorisations():
            point.opened = opened
        self.board.point = point
        return point

    async def reconnects(self) -> None:
        """The wire is gone for a moment."""
        self.board.point = None
        self.point.offline()
        await asyncio.sleep(self.choice.uniform(0.1, 3))
        self.board.point = self.point
        await self.point.start(open_point=False)

    async def restarts(self) -> None:
        """The client is killed and starts again."""
        self.board.point = None
        for task in tuple(self.point.background.tasks):
            task.cancel()
        await asyncio.sleep(0.01)
        self.point.outbox.close()
        self.point = self._connected()
        await self.point.start(open_point=False)

    async def released(self, number: int) -> str:
        """Release the pump for an order; it may be refused twice for fuel that is not told yet."""
        for tried in range(3):
            command = authorise_command(f"P{number}-{tried}")
            patience = Lifetime(command.expires_at + timedelta(days=1), 600, now=self.point.now)
            result = await commands.authorise(self.point, command, patience)
            if result.state is CommandState.ACCEPTED:
                return command.order_no
            await asyncio.sleep(self.choice.choice((0.1, 0.5, 1.0)))
        raise AssertionError(f"order {number} is refused again and again: {result.code}")

    async def serves(self, number: int) -> None:
        """Somebody prepays, and fills or not."""
        order_no = await self.released(number)
        does = self.choice.choice(("fills", "fills", "hangs up", "stops"))
        await asyncio.sleep(self.choice.choice((0.2, 1.5)))
        if does == "fills":
            fill = asyncio.create_task(self.board.fill(self.choice.choice(SIZES), order_no))
            if self.choice.random() < 0.2:
                await self.reconnects()
            await fill
        else:
            self.unused.append(order_no)
            if does == "stops":
                await commands.stop(self.point, stop_command(order_no))
            elif self.board.state == AUTHORISED:
                self.board.becomes(IDLE)
        for _ in range(300):
            if self.point.opened is None:
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"{order_no} never ends")

    async def day(self) -> None:
        """Some customers, with everything told in the end."""
        await self.point.start(open_point=False)
        for number in range(self.choice.randint(3, 9)):
            what = self.choice.random()
            if what < 0.35:
                await self.board.fill(self.choice.choice(SIZES), None)
            elif what < 0.8:
                await self.serves(number)
            else:
                await (self.reconnects() if what < 0.9 else self.restarts())
            await asyncio.sleep(self.choice.choice((0.05, 0.3, 1.0, 2.5, 5.0, 12.0)))
        await asyncio.sleep(150)

    def check(self) -> None:
        """Compare what was told with the truth."""
        told = [loads(event.body.encode()) for event in self.point.outbox.pending(1000)]
        sales = [(one["q"], one["m"], one.get("o")) for one in told if one["q"]]
        assert sorted(sales) == sorted(self.board.truth)
        ended = sorted((one.get("o"), one["e"], one["m"]) for one in told if not one["q"])
        assert ended == sorted((one, "zero", 0) for one in self.unused)


async def one_day(seed: int, folder: Path) -> None:
    """Run a day and compare; a failure names its seed."""
    forecourt = Forecourt(seed, folder)
    try:
        await forecourt.day()
        forecourt.check()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    finally:
        for task in tuple(forecourt.point.background.tasks):
            task.cancel()
        forecourt.point.outbox.close()


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_every_litre_is_told_once_to_whom_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    for seed in range(first, first + 20):
        loop = JumpingLoop()
        monkeypatch.setattr(time, "monotonic", loop.time)
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            loop.run_until_complete(one_day(seed, folder))
        finally:
            loop.close()
