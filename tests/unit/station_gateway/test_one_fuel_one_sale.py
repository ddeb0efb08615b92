"""One fuel is one sale, and two are two: whatever is cut off between storing a transaction and clearing it."""

from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from contracts.station import CommandState
from station_gateway.client.buffer import BUSY_TRIES
from station_gateway.client.link import LinkError
from station_gateway.client.point import Point
from station_gateway.protocols.ifsf.messages import Message
from tests.unit.station_gateway.hostile_device import FP, IDLE, NOW, Device, point_of
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales

NEXT = (8, 5_000, 680, 1_034_010)


Made = TypeVar("Made", bound=Device)


def bare(device: Made, *, tells_total: bool = False) -> Made:
    """Leave totaliser and time out of a device's records; its meter's own totaliser may be unreadable too."""
    device.tells_total_after = False
    if not tells_total:
        device.total = None
    return device


def fills(device: Device, *transactions: tuple[int, int, int, int]) -> None:
    device.state = IDLE
    device.buffer = [*device.buffer, *transactions]
    if device.total is not None:
        device.total = device.meter(transactions[-1][3])


async def back(device: Device, folder: Path, point: Point, *, restarted: bool) -> Point:
    """Return the point after a new connection, an hour later, of the same client or of one that was started anew."""
    point.offline()
    if restarted:
        point.outbox.close()
        point = point_of(device, folder)
    point.now = lambda: NOW + timedelta(hours=1)
    await point.start(open_point=False)
    return point


def told(point: Point) -> list[tuple[int, str | None]]:
    return [(one["q"], one.get("o")) for one in sales(point)]


@pytest.mark.feature("003-E1")
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("tells_total", [False, True])
async def test_a_sale_whose_clear_was_lost_is_one_sale_after_another_fill(
    tmp_path: Path, tells_total: bool, restarted: bool
) -> None:
    device = bare(Device(), tells_total=tells_total)
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    fills(device, OWN)
    device.loses_clear = True
    with pytest.raises(LinkError):
        await point.settle()
    assert told(point) == [(7, "P1")]
    fills(device, NEXT)  # while nobody listens
    point = await back(device, tmp_path, point, restarted=restarted)
    assert told(point) == [(7, "P1"), (8, None)]
    assert device.buffer == []


@pytest.mark.feature("003-E1")
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("answer_lost", [False, True])
async def test_a_transaction_like_one_that_was_cleared_is_another_sale(
    tmp_path: Path, answer_lost: bool, restarted: bool
) -> None:
    """The sequence number has wrapped, the figures are equal, and no totaliser tells the two apart."""
    device = bare(Device())
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    if answer_lost:
        device.loses_clear_answer = True
        with pytest.raises(LinkError):
            await point.collect_unpaid(1)
    else:
        assert await point.collect_unpaid(1)
    point = await back(device, tmp_path, point, restarted=restarted)
    fills(device, OWN)
    assert await point.collect_unpaid(1)
    assert told(point) == [(7, None), (7, None)]


async def test_another_transaction_with_the_number_of_an_uncleared_one_is_a_sale(tmp_path: Path) -> None:
    device = bare(Device())
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    device.loses_clear = True
    with pytest.raises(LinkError):
        await point.collect_unpaid(1)
    device.buffer = []
    fills(device, (7, 5_000, 680, 0))
    point = await back(device, tmp_path, point, restarted=True)
    assert [one["a"] for one in sales(point)] == [20_000, 5_000]


async def lost_fill(device: Device, folder: Path) -> Point:
    """Return a point whose order P1 was rebuilt: the totaliser has moved, its transaction is not there yet."""
    point = await ready_point(device, folder)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    device.state, device.total = IDLE, device.meter(OWN[3])
    await point._settle()
    assert [(one["e"], one.get("o")) for one in sales(point)] == [("synthesised", "P1")]
    return point


@pytest.mark.feature("003-D3")
@pytest.mark.parametrize("tells_total_after", [True, False])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_transaction_that_comes_after_its_rebuilt_sale_belongs_to_the_same_order(
    tmp_path: Path, restarted: bool, tells_total_after: bool
) -> None:
    device = Device()
    device.tells_total_after = tells_total_after
    point = await lost_fill(device, tmp_path)
    device.buffer = [OWN]
    point = await back(device, tmp_path, point, restarted=restarted)
    assert told(point) == [(0, "P1"), (7, "P1")]
    fills(device, NEXT)
    await point.collect_unpaid(1)
    assert told(point)[2:] == [(8, None)]


@pytest.mark.feature("003-D3")
async def test_the_transaction_of_a_rebuilt_sale_does_not_end_the_next_order(tmp_path: Path) -> None:
    device = Device()
    point = await lost_fill(device, tmp_path)
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    device.buffer = [OWN]
    await point.collect_unpaid(1)
    assert told(point) == [(0, "P1"), (7, "P1")]
    assert [one.order_no for one in point.outbox.authorisations()] == ["P2"]
    fills(device, NEXT)
    await point._settle()
    assert told(point)[2:] == [(8, "P2")]


class BusyDevice(Device):
    """Answers a read of its transactions with "not now" as often as `busy` says."""

    busy = 0

    async def read(self, database: bytes, ids: bytes) -> Message:
        """Refuse, or read as usual."""
        if self.busy and len(database) == 4:
            self.busy -= 1
            return self._ack(9)
        return await super().read(database, ids)


BUSY = [1, 2, BUSY_TRIES, 20]
"""How many reads in a row are refused: fewer than are tried again, and more than anybody tries."""


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_device_that_refused_the_clear_and_is_busy_has_no_empty_buffer(
    tmp_path: Path, restarted: bool, busy: int
) -> None:
    device = bare(BusyDevice())
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    device.clear_code = 2
    assert not await point.collect_unpaid(1)
    assert told(point) == [(7, None)]
    device.busy = busy
    assert not await point.collect_unpaid(1)
    device.busy = busy
    point = await back(device, tmp_path, point, restarted=restarted)
    assert not await point.collect_unpaid(1)
    device.busy, device.clear_code = 0, 0
    assert await point.collect_unpaid(1)
    assert told(point) == [(7, None)]
    assert (device.buffer, point.outbox.uncleared_of(1, FP)) == ([], [])


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("busy", BUSY)
async def test_a_busy_device_after_a_lost_clear_has_no_empty_buffer(tmp_path: Path, busy: int) -> None:
    device = bare(BusyDevice())
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    device.loses_clear = True
    with pytest.raises(LinkError):
        await point.collect_unpaid(1)
    device.busy = busy
    point = await back(device, tmp_path, point, restarted=True)
    device.busy = 0
    assert await point.collect_unpaid(1)
    assert told(point) == [(7, None)]


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize("stored", [False, True])
async def test_a_busy_device_is_not_released_over_an_older_sale(
    tmp_path: Path, busy: int, stored: bool
) -> None:
    """A post-paid sale whose message was lost, or whose clear was refused: the next order must not be given its fuel."""
    device = bare(BusyDevice())
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    if stored:
        device.clear_code = 2
        assert not await point.collect_unpaid(1)
        device.clear_code = 0
    device.busy = busy
    point.now = lambda: NOW + timedelta(minutes=5)
    result = await authorise(point, "P9")
    released = busy <= BUSY_TRIES
    assert (result.state is CommandState.ACCEPTED) is released
    device.busy = 0
    if not released:
        assert result.code == "FP_BUSY"
        assert (await authorise(point, "P10")).state is CommandState.ACCEPTED
    fills(device, NEXT)
    await point._settle()
    assert told(point) == [(7, None), (8, "P9" if released else "P10")]


@pytest.mark.feature("003-D3")
@pytest.mark.parametrize("busy", BUSY)
async def test_an_order_is_not_ended_by_the_totaliser_while_the_device_does_not_tell_its_transactions(
    tmp_path: Path, busy: int
) -> None:
    device = BusyDevice()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    fills(device, OWN)
    device.busy = busy
    await point.settle()
    device.busy = 0
    await point._settle()
    assert [(one["q"], one["e"], one.get("o")) for one in sales(point)] == [(7, "normal", "P1")]


@pytest.mark.feature("003-D2")
async def test_the_same_figures_after_a_device_was_reset_are_another_sale(tmp_path: Path) -> None:
    """The clear was refused, then a technician emptied the buffer: months later the same number and amount are new fuel."""
    device = bare(Device())
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    device.clear_code = 2
    assert not await point.collect_unpaid(1)
    device.clear_code, device.buffer = 0, []
    point = await back(device, tmp_path, point, restarted=True)
    assert await point.collect_unpaid(1)
    point.now = lambda: NOW + timedelta(days=90)
    fills(device, OWN)
    assert await point.collect_unpaid(1)
    assert told(point) == [(7, None), (7, None)]
