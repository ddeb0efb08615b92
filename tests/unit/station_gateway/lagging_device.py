"""A board that lags: something happens at the pump while an answer is on its way, a report comes later, or never."""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

from station_gateway.client.point import Point
from station_gateway.protocols.ifsf.ids import FpId
from station_gateway.protocols.ifsf.messages import Message, MessageType
from station_gateway.protocols.ifsf.numbers import encode_amount, encode_volume
from tests.unit.station_gateway.hostile_device import CONTROLLER, DEVICE, FP, Device, point_of
from tests.unit.station_gateway.test_point import sales
from tests.unit.station_gateway.test_unreadable_buffers import CALLING, said, state

INOPERATIVE = 1
STATE, METER, BUFFER = 1, 2, 4
"""What is read, by the length of its address."""


async def until(holds: Callable[[], object]) -> None:
    """Wait, bounded, until something holds."""
    deadline = asyncio.get_running_loop().time() + 5
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "it never happened"
        await asyncio.sleep(0.002)


async def quiet(point: Point) -> None:
    """Wait until a point has nothing left to do."""
    await until(lambda: not point.background.tasks)


def endings(point: Point) -> list[tuple[str, int, str | None]]:
    """Return how each sale ended, its sequence number and its order."""
    return [(one["e"], one["q"], one.get("o")) for one in sales(point)]


def running(fen: int, centi: int) -> Message:
    """Return the report of a fill that runs."""
    figures = (FpId.CURRENT_AMOUNT, encode_amount(fen)), (FpId.CURRENT_VOLUME, encode_volume(centi))
    return said(bytes((FP,)), *figures)


def lifted(state: int = CALLING) -> Message:
    """Return the report of a state with nozzle 1 lifted."""
    return said(bytes((FP,)), (FpId.STATE, bytes((state,))), (FpId.NOZZLE_STATE, b"\1"))


class Board(Device):
    """Notes what it is asked and told; what happens `after` an answer is not in that answer."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[int] = []
        self.asked: list[int] = []
        self.reported: int | None = None
        """The state that it tells instead of its own."""
        self.nozzles_out = 0
        self._after: list[tuple[int, Callable[[], None]]] = []

    def after(self, kind: int, happens: Callable[[], None]) -> None:
        """Let something happen once, right after the next answer to a read of this kind."""
        self._after.append((kind, happens))

    def catch_up(self) -> None:
        """Let happen now what waits for a read."""
        waiting, self._after = self._after, []
        for _, happens in waiting:
            happens()

    def reads(self, kind: int) -> int:
        """Return how often it was asked for something of this kind."""
        return self.asked.count(kind)

    async def read(self, database: bytes, ids: bytes) -> Message:
        """Answer; then let happen what waits for this."""
        kind = len(database)
        self.asked.append(kind)
        answer = self._told_state(database) if kind == STATE else await super().read(database, ids)
        for one in [one for one in self._after if one[0] == kind]:
            self._after.remove(one)
            one[1]()
        return answer

    def _told_state(self, database: bytes) -> Message:
        told = self.state if self.reported is None else self.reported
        items = (FpId.STATE, bytes((told,))), (FpId.NOZZLE_STATE, bytes((self.nozzles_out,)))
        return Message(
            recipient=CONTROLLER, origin=DEVICE, type=MessageType.ANSWER, database=database, items=items
        )

    async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
        """Note what is written, and do it."""
        self.written += [number for number, _ in items]
        return await super().write(database, *items)


def becomes(device: Board, point: Point, number: int) -> None:
    """The pump takes a state and reports it."""
    device.state = number
    point.heard(state(number))


def again(device: Board, folder: Path, point: Point) -> Point:
    """Return the point of a client that was restarted."""
    point.outbox.close()
    point = point_of(device, folder)
    (point.opened,) = point.outbox.authorisations()
    return point


async def postpaid_point(device: Board, folder: Path) -> Point:
    """Return a point that is ready, and whose nozzle is released for whoever lifts it."""
    point = point_of(device, folder)
    nozzles = tuple(dataclasses.replace(one, postpaid=True) for one in point.key.config.nozzles)
    config = dataclasses.replace(point.key.config, nozzles=nozzles)
    point.key = dataclasses.replace(point.key, config=config)
    await point.start(open_point=False)
    return point
