"""A device that does not tell its transactions: nothing is taken for empty, and it is asked again without being told to."""

import asyncio
from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client import authorise as commands
from station_gateway.client import releases
from station_gateway.client.point import Point
from station_gateway.protocols.ifsf.ids import FpId, TransactionId, transaction_db
from station_gateway.protocols.ifsf.messages import Message, MessageType
from station_gateway.protocols.ifsf.numbers import int_to_bcd
from tests.unit.station_gateway.hostile_device import CONTROLLER, DEVICE, FP, IDLE, Device
from tests.unit.station_gateway.test_one_fuel_one_sale import NEXT, BusyDevice, bare, fills, told
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales, stop_command

FUELLING, CALLING = 8, 4


def said(database: bytes, *items: tuple[int, bytes]) -> Message:
    """Return a message that the device sends by itself."""
    return Message(
        recipient=CONTROLLER, origin=DEVICE, type=MessageType.UNSOLICITED, database=database, items=items
    )


def state(number: int) -> Message:
    return said(bytes((FP,)), (FpId.STATE, bytes((number,))), (FpId.NOZZLE_STATE, b"\0"))


def payable(sequence: int) -> Message:
    return said(transaction_db(FP, sequence), (TransactionId.STATE, b"\2"))


async def until_told(point: Point, expected: list[tuple[int, str | None]]) -> None:
    """Wait up to 3 s until these sales are told, and no others."""
    for _ in range(300):
        if told(point) == expected and not point.background.tasks:
            return
        await asyncio.sleep(0.01)
    assert told(point) == expected


async def begins_late(device: Device, point: Point) -> None:
    """The board reports CALLING a moment longer; then the order's fill begins and is told, once."""
    device.state = CALLING
    point.heard(state(CALLING))
    await asyncio.sleep(0.1)
    device.state = FUELLING
    point.heard(state(FUELLING))
    assert sales(point) == []
    fills(device, OWN)
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])


@pytest.mark.feature("003-D2")
async def test_an_order_whose_device_was_busy_at_its_end_is_ended_by_itself(tmp_path: Path) -> None:
    device = BusyDevice()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    point.heard(state(FUELLING))
    fills(device, OWN)
    device.busy = 6
    point.heard(payable(7))
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED


@pytest.mark.feature("003-E1")
@pytest.mark.parametrize("busy", [1, 5])
async def test_a_post_paid_sale_whose_only_message_met_a_busy_device_is_found(
    tmp_path: Path, busy: int
) -> None:
    device = BusyDevice()
    point = await ready_point(device, tmp_path)
    point.heard(state(FUELLING))
    point.heard(state(IDLE))
    await asyncio.sleep(0.1)
    fills(device, OWN)
    device.busy = busy
    point.heard(payable(7))
    await until_told(point, [(7, None)])


@pytest.mark.feature("003-D4")
async def test_a_device_that_is_busy_when_it_comes_back_is_read_later(tmp_path: Path) -> None:
    device = BusyDevice()
    point = await ready_point(device, tmp_path)
    device.dead_after_release = True
    assert (await authorise(point)).state is CommandState.UNKNOWN
    device.dead_after_release = False
    fills(device, OWN)
    device.busy = 4
    point.offline()
    await point.start(open_point=False)
    await until_told(point, [(7, "P1")])


class OddDevice(Device):
    """Answers reads of its transactions in a way that says neither what is there nor that nothing is."""

    odd = ""

    async def read(self, database: bytes, ids: bytes) -> Message:
        """Answer oddly as long as `odd` says so."""
        if not self.odd or len(database) != 4:
            return await super().read(database, ids)
        if self.odd == "not in this state":
            return self._ack(5, tuple((one, 3) for one in ids))
        found, items = self._transaction(*self.buffer[0])
        kept = {
            "no items": (),
            "no state": tuple(item for item in items if item[0] != TransactionId.STATE),
            "state 0": ((TransactionId.SEQUENCE, int_to_bcd(7, 2)), (TransactionId.STATE, b"\0")),
        }[self.odd]
        return Message(
            recipient=CONTROLLER, origin=DEVICE, type=MessageType.ANSWER, database=found, items=kept
        )


ODD = ["not in this state", "no items", "no state", "state 0"]


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("odd", ODD)
async def test_an_answer_that_cannot_be_read_is_no_empty_buffer(tmp_path: Path, odd: str) -> None:
    device = bare(OddDevice())
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    device.clear_code = 2
    assert not await point.collect_unpaid(1)
    device.odd, device.clear_code = odd, 0
    refused = await authorise(point, "P9")
    assert (refused.state, refused.code) == (CommandState.REFUSED, "FP_BUSY")
    device.odd = ""
    await until_told(point, [(7, None)])
    assert (device.buffer, point.outbox.uncleared_of(1, FP)) == ([], [])


@pytest.mark.feature("003-D3")
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("meter_lags", [False, True])
async def test_an_order_does_not_end_without_its_transaction_while_that_cannot_be_read(
    tmp_path: Path, odd: str, meter_lags: bool
) -> None:
    device = OddDevice()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    before = device.total
    fills(device, OWN)
    if meter_lags:
        device.total = before
    device.odd = odd
    await point._settle()
    await asyncio.sleep(0.05)
    assert sales(point) == []
    device.odd = ""
    await until_told(point, [(7, "P1")])


@pytest.mark.feature("003-D2")
async def test_a_release_that_is_not_at_work_yet_has_not_ended(tmp_path: Path) -> None:
    """The board acknowledges the release and reports CALLING for a moment longer."""
    device = Device()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point, seen=False)).state is CommandState.ACCEPTED
    await begins_late(device, point)


@pytest.mark.feature("003-D2")
async def test_a_release_that_never_began_ends_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "RELEASE_GRACE_S", 0.1)
    device = Device()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point, seen=False)).state is CommandState.ACCEPTED
    device.state = IDLE
    point.heard(state(IDLE))
    for _ in range(300):
        if sales(point):
            break
        await asyncio.sleep(0.01)
    assert [(one["e"], one.get("o")) for one in sales(point)] == [("zero", "P1")]


@pytest.mark.feature("003-D2")
async def test_a_stop_does_not_wait_for_a_busy_device(tmp_path: Path) -> None:
    """The order's run waits 8 s for a stop and then takes the station for silent."""
    device = BusyDevice()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    fills(device, NEXT)
    device.busy = 1
    stopped = await commands.stop(point, stop_command())
    assert (stopped.state, stopped.code) == (CommandState.REFUSED, "FP_BUSY")
    await until_told(point, [(8, "P1")])
