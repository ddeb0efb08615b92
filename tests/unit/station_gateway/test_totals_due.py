"""When the totalisers are compared: once the dispenser can be seen again, at rest, and tells no transaction any more."""

import asyncio
from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client.health import TOTALISER_GAPS
from tests.unit.station_gateway.hostile_device import FP, IDLE
from tests.unit.station_gateway.lagging_device import INOPERATIVE, STATE, Board, becomes, quiet, until
from tests.unit.station_gateway.test_one_fuel_one_sale import BusyDevice
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable, until_told
from tests.unit.station_gateway.test_unreadable_buffers import state as told_state


def gaps() -> float:
    return float(TOTALISER_GAPS.labels(1, FP, 1)._value.get())


@pytest.mark.feature("003-E1")
@pytest.mark.parametrize("is_connecting", [False, True])
async def test_a_gap_is_noted_when_the_board_has_its_dispenser_back(
    tmp_path: Path, is_connecting: bool
) -> None:
    """Meanwhile it tells what its totaliser was."""
    device = Board()
    point = await ready_point(device, tmp_path)
    before = gaps()
    if is_connecting:
        point.offline()
        device.state = INOPERATIVE
        await point.start(open_point=False)
    else:
        becomes(device, point, INOPERATIVE)
    await asyncio.sleep(0.05)
    device.total = device.meter(OWN[3])
    becomes(device, point, IDLE)
    await until(lambda: gaps() == before + 1)
    await quiet(point)


@pytest.mark.feature("003-E1")
async def test_a_fill_after_a_busy_device_came_back_is_no_gap(tmp_path: Path) -> None:
    """Its transaction is written up to 2 s after the pump is at rest, and the totaliser may have counted it before."""
    device = BusyDevice()
    point = await ready_point(device, tmp_path)
    before = gaps()
    point.offline()
    device.busy = 4
    await point.start(open_point=False)
    for state in (FUELLING, IDLE):
        device.state = state
        point.heard(told_state(state))
        device.busy, device.total = 0, device.meter(OWN[3])
    await quiet(point)
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    assert gaps() == before


@pytest.mark.feature("003-E1")
async def test_a_board_that_was_long_without_its_dispenser_is_looked_at_soon_when_it_is_back(
    tmp_path: Path,
) -> None:
    """Until the gap is noted, a customer who has paid is refused for it."""
    device = Board()
    point = await ready_point(device, tmp_path)
    before = gaps()
    becomes(device, point, INOPERATIVE)
    await asyncio.sleep(1.4)  # the next look would come 1.1 s later, and a minute later in service
    device.total = device.meter(OWN[3])
    becomes(device, point, IDLE)
    await asyncio.sleep(0.4)
    assert gaps() == before + 1
    await quiet(point)
    assert (await authorise(point)).state is CommandState.ACCEPTED


@pytest.mark.feature("003-E1")
async def test_a_board_that_repeats_that_it_has_no_dispenser_is_not_looked_at_each_time(
    tmp_path: Path,
) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    device.asked.clear()
    for _ in range(50):
        becomes(device, point, INOPERATIVE)
        await asyncio.sleep(0.01)
    assert 0 < device.reads(STATE) < 20
