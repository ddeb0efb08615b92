"""A transaction that comes after its order was ended by the totaliser: it is that order's, and only that one."""

from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client.point import Point
from tests.unit.station_gateway.hostile_device import IDLE
from tests.unit.station_gateway.lagging_device import Board, becomes, endings, until
from tests.unit.station_gateway.test_one_fuel_one_sale import back, bare, fills, told
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable, until_told


async def rebuilt_at(device: Board, folder: Path, total: int) -> Point:
    """The fuel of P1 is only known by the totaliser."""
    point = await ready_point(device, folder)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    device.total = device.meter(total)
    becomes(device, point, IDLE)
    await until(lambda: sales(point))
    assert endings(point) == [("synthesised", 0, "P1")]
    return point


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("total", [1_027_200, 1_027_220])
@pytest.mark.parametrize("tells_total", [True, False])
async def test_a_meter_that_rounds_tells_the_rebuilt_order_all_the_same(
    tmp_path: Path, tells_total: bool, total: int
) -> None:
    device = Board()
    if not tells_total:
        bare(device, tells_total=True)
    point = await rebuilt_at(device, tmp_path, total)
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    device.buffer = [OWN]
    point.heard(payable(7))
    await until(lambda: len(sales(point)) == 2)
    assert told(point)[1] == (7, "P1")


@pytest.mark.feature("003-D2")
async def test_an_equal_fill_that_is_read_early_is_not_the_rebuilt_one_again(tmp_path: Path) -> None:
    device = bare(Board(), tells_total=True)
    point = await rebuilt_at(device, tmp_path, OWN[3])
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(0, "P1"), (7, "P1")])
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    device.state = IDLE
    device.buffer = [(8, *OWN[1:3], 0)]  # the meter has not moved yet
    point.heard(payable(8))
    await until(lambda: 8 in [one["q"] for one in sales(point)])
    assert told(point)[-1] == (8, "P2")


@pytest.mark.feature("003-D2")
async def test_a_meter_that_begins_anew_meets_an_old_rebuilt_sale(tmp_path: Path) -> None:
    device = Board()
    point = await rebuilt_at(device, tmp_path, OWN[3])
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(0, "P1"), (7, "P1")])
    device.total = device.meter(1_001_000)  # a new board
    point = await back(device, tmp_path, point, restarted=True)
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    fills(device, (1, 5_000, 680, 1_007_800))
    point.heard(payable(1))
    await until(lambda: len(sales(point)) == 3)
    assert told(point)[-1] == (1, "P2")
