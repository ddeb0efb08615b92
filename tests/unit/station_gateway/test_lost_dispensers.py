"""A board that loses its dispenser (INOPERATIVE) is like a lost wire: what flowed meanwhile was seen by nobody."""

import asyncio
from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client.point import Point
from tests.unit.station_gateway.hostile_device import IDLE
from tests.unit.station_gateway.lagging_device import INOPERATIVE, Board, becomes, quiet, until
from tests.unit.station_gateway.test_one_fuel_one_sale import NEXT, told
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable

PATIENCE_S = 0.05
"""A board needs up to three times as long to settle."""
LONG_S = 4 * PATIENCE_S


async def patient_point(device: Board, folder: Path) -> Point:
    """Return a ready point that gives a board time enough for a busy machine, too."""
    point = await ready_point(device, folder)
    point._settle_retry_s = PATIENCE_S
    return point


async def loses_its_dispenser(point: Point, device: Board) -> None:
    """Nothing is seen for longer than a board needs to settle; then the pump is at rest, and its fill not written."""
    becomes(device, point, INOPERATIVE)
    await asyncio.sleep(LONG_S)
    becomes(device, point, IDLE)
    asyncio.get_running_loop().call_later(1.5 * PATIENCE_S, writes, point, device, OWN)


def writes(point: Point, device: Board, transaction: tuple[int, int, int, int]) -> None:
    """The board counts and writes a fill."""
    device.buffer, device.total = [transaction], device.meter(transaction[3])
    point.heard(payable(transaction[0]))


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("seen_flowing", [False, True])
@pytest.mark.parametrize("tells_total_after", [False, True])
async def test_a_fill_of_which_the_board_saw_no_end_is_not_the_next_orders(
    tmp_path: Path, seen_flowing: bool, tells_total_after: bool
) -> None:
    device = Board()
    device.tells_total_after = tells_total_after
    point = await patient_point(device, tmp_path)
    if seen_flowing:
        becomes(device, point, FUELLING)
    await loses_its_dispenser(point, device)
    await authorise(point, "PB")
    await until(lambda: told(point) == [(7, None)])


@pytest.mark.feature("003-D3")
async def test_an_orders_fill_that_nobody_saw_is_the_orders(tmp_path: Path) -> None:
    """Ended by nothing but its totaliser, which has not counted it yet, it would be an order that nobody used."""
    device = Board()
    point = await patient_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    await loses_its_dispenser(point, device)
    await until(lambda: sales(point))
    await quiet(point)
    assert [(one["e"], one["m"], one.get("o")) for one in sales(point)] == [("normal", 27_210, "P1")]


@pytest.mark.feature("003-D2")
async def test_an_orders_sale_does_not_tell_of_a_fill_that_nobody_saw_after_it(tmp_path: Path) -> None:
    device = Board()
    point = await patient_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, INOPERATIVE)
    await asyncio.sleep(LONG_S)
    device.buffer, device.total = [OWN], device.meter(OWN[3])
    becomes(device, point, IDLE)
    await until(lambda: told(point) == [(7, "P1")])
    asyncio.get_running_loop().call_later(PATIENCE_S, writes, point, device, NEXT)
    await authorise(point, "P2")
    await until(lambda: told(point) == [(7, "P1"), (8, None)])
