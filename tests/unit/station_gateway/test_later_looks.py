"""Whatever goes wrong with a report or a read, the point looks again by itself; what has not begun has not ended."""

import asyncio
from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client import authorise as commands
from station_gateway.client import releases
from station_gateway.client.point import Point
from station_gateway.protocols.ifsf.ids import FpId, TransactionId
from station_gateway.protocols.ifsf.messages import Message, MessageType
from tests.unit.station_gateway.hostile_device import AUTHORISED, CONTROLLER, DEVICE, IDLE, Device
from tests.unit.station_gateway.test_one_fuel_one_sale import BusyDevice, fills
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales, stop_command
from tests.unit.station_gateway.test_unreadable_buffers import (
    FUELLING,
    begins_late,
    payable,
    state,
    until_told,
)


class Moody(BusyDevice):
    """Refuses to tell its state `refuse` times, tears `torn` records, answers a release after `slow_s` seconds."""

    refuse = 0
    torn = 0
    slow_s = 0.0
    numbers = True

    def __init__(self) -> None:
        super().__init__()
        self.written: list[int] = []

    async def read(self, database: bytes, ids: bytes) -> Message:
        """Refuse, or read as usual."""
        if len(database) == 1 and self.refuse:
            self.refuse -= 1
            return self._ack(5)
        return await super().read(database, ids)

    async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
        """Write as usual, slowly when it is a release."""
        self.written += [number for number, _ in items]
        if FpId.RELEASE in self.written:
            await asyncio.sleep(self.slow_s)
        return await super().write(database, *items)

    def _transaction(
        self, sequence: int, fen: int, centi: int, after: int
    ) -> tuple[bytes, tuple[tuple[int, bytes], ...]]:
        database, items = super()._transaction(sequence, fen, centi, after)
        if self.torn:
            self.torn -= 1
            items = tuple(one for one in items if one[0] != TransactionId.AMOUNT)
        if not self.numbers:
            items = tuple((one, b"\0\0" if one == TransactionId.SEQUENCE else data) for one, data in items)
        return database, items


async def fuelling(folder: Path) -> tuple[Moody, Point]:
    """Return a point at which order P1 is fuelling."""
    device = Moody()
    point = await ready_point(device, folder)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    point.heard(state(FUELLING))
    return device, point


@pytest.mark.feature("003-D3")
async def test_a_refused_read_of_the_state_at_the_end_is_repeated(tmp_path: Path) -> None:
    """The look that the release had begun is over: nobody else would ask."""
    device, point = await fuelling(tmp_path)
    while point.background.tasks:
        await asyncio.sleep(0.001)
    device.state, device.refuse = IDLE, 1
    point.heard(state(IDLE))
    await until_told(point, [(0, "P1")])


@pytest.mark.feature("003-D3")
async def test_a_look_goes_on_after_a_refused_read(tmp_path: Path) -> None:
    device, point = await fuelling(tmp_path)
    fills(device, OWN)
    device.busy, device.refuse = 2, 2
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])


@pytest.mark.feature("003-D3")
async def test_a_torn_record_is_read_again(tmp_path: Path) -> None:
    device, point = await fuelling(tmp_path)
    fills(device, OWN)
    device.torn = 2
    point.heard(payable(7))
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])


@pytest.mark.feature("003-D3")
async def test_a_transaction_that_only_its_address_numbers_is_a_sale(tmp_path: Path) -> None:
    device, point = await fuelling(tmp_path)
    device.numbers = False
    fills(device, OWN)
    point.heard(payable(7))
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])


@pytest.mark.feature("003-D2")
async def test_an_empty_record_without_a_number_is_an_empty_buffer(tmp_path: Path) -> None:
    class Zeros(Device):
        async def read(self, database: bytes, ids: bytes) -> Message:
            """Answer for an empty buffer with a record of zeros."""
            if len(database) != 4 or self.buffer:
                return await super().read(database, ids)
            zeros = ((TransactionId.AMOUNT, bytes(6)), (TransactionId.STATE, b"\0"))
            return Message(
                recipient=CONTROLLER, origin=DEVICE, type=MessageType.ANSWER, database=database, items=zeros
            )

    point = await ready_point(Zeros(), tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED


@pytest.mark.feature("003-D2")
async def test_a_release_that_is_lost_without_a_word_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acknowledged, never at work, and no message, since the state has not changed."""
    monkeypatch.setattr(releases, "RELEASE_GRACE_S", 0.1)
    device = Moody()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point, seen=False)).state is CommandState.ACCEPTED
    device.state = IDLE
    await until_told(point, [(0, "P1")])


@pytest.mark.feature("003-D2")
async def test_the_grace_of_a_release_begins_with_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "RELEASE_GRACE_S", 0.3)
    device = Moody()
    device.slow_s = 0.35
    point = await ready_point(device, tmp_path)
    assert (await authorise(point, seen=False)).state is CommandState.ACCEPTED
    await begins_late(device, point)


@pytest.mark.feature("003-D4")
async def test_a_release_whose_answer_was_lost_is_confirmed_once_it_is_at_work(tmp_path: Path) -> None:
    device = Device()
    point = await ready_point(device, tmp_path)
    device.dead_after_release = True
    assert (await authorise(point, seen=False)).state is CommandState.UNKNOWN
    device.dead_after_release = False
    device.state = IDLE
    point.offline()
    await point.start(open_point=False)
    assert point.opened is not None
    device.state = AUTHORISED
    point.heard(state(AUTHORISED))
    for _ in range(300):
        result = point.outbox.result_of("auth-P1")
        if result is not None and result.state is CommandState.ACCEPTED:
            break
        await asyncio.sleep(0.01)
    assert result is not None
    assert result.state is CommandState.ACCEPTED
    assert sales(point) == []


@pytest.mark.feature("003-D2")
async def test_a_stop_right_after_a_release_ends_it_though_the_board_still_reports_the_old_state(
    tmp_path: Path,
) -> None:
    device = Moody()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point, seen=False)).state is CommandState.ACCEPTED
    device.state = IDLE
    await commands.stop(point, stop_command())
    assert FpId.TERMINATE in device.written


@pytest.mark.feature("003-D3")
async def test_the_long_pause_of_an_earlier_look_does_not_delay_the_next_order(tmp_path: Path) -> None:
    device = Moody()
    point = await ready_point(device, tmp_path)
    device.busy = 9
    assert (await authorise(point, "P0")).code == "FP_BUSY"
    while device.busy:
        await asyncio.sleep(0.01)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    fills(device, OWN)
    device.busy = 1
    began = asyncio.get_running_loop().time()
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])
    assert asyncio.get_running_loop().time() - began < 0.3, "the look of before had grown to 0.64 s and more"
