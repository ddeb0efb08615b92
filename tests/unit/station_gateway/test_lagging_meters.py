"""Meters and states that lag: one fuel is told once, of whom it was, and an order that took none ends as zero."""

from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client import authorise as commands
from station_gateway.client.health import TOTALISER_GAPS
from station_gateway.protocols.ifsf.ids import FpId
from tests.unit.station_gateway.hostile_device import FP, IDLE
from tests.unit.station_gateway.lagging_device import (
    Board,
    becomes,
    endings,
    lifted,
    postpaid_point,
    quiet,
    running,
    until,
)
from tests.unit.station_gateway.test_one_fuel_one_sale import NEXT, bare, fills, told
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales, stop_command
from tests.unit.station_gateway.test_unreadable_buffers import CALLING, FUELLING, payable, state, until_told

STARTED = 6


@pytest.mark.feature("003-D2")
async def test_a_nozzle_that_is_lifted_again_does_not_hide_the_fuel_before(tmp_path: Path) -> None:
    device = Board()
    point = await postpaid_point(device, tmp_path)
    becomes(device, point, FUELLING)
    device.total = device.meter(OWN[3])
    becomes(device, point, IDLE)
    await quiet(point)
    device.state, device.nozzles_out = CALLING, 1
    point.heard(lifted())
    await until(lambda: device.releases)
    await quiet(point)
    point.heard(lifted(STARTED))
    device.nozzles_out = 0
    becomes(device, point, IDLE)
    await quiet(point)
    assert (await authorise(point)).code == "FP_BUSY"
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(7, None)])


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("reported", [IDLE, CALLING])
async def test_an_order_is_withdrawn_before_one_flickering_state_ends_it(
    tmp_path: Path, reported: int
) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    device.reported = reported
    point.heard(state(reported))
    await until_told(point, [(0, "P1")])
    assert FpId.TERMINATE in device.written
    assert device.state == IDLE, "the pump is shut"


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("is_stopped", [False, True])
async def test_a_meter_that_catches_up_is_no_fuel_of_the_next_order(tmp_path: Path, is_stopped: bool) -> None:
    device = bare(Board(), tells_total=True)
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    device.buffer = [OWN]
    becomes(device, point, IDLE)
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    assert (await authorise(point)).state is CommandState.ACCEPTED
    device.total = device.meter(OWN[3])
    if is_stopped:
        assert (await commands.stop(point, stop_command())).state is CommandState.ACCEPTED
    else:
        becomes(device, point, IDLE)
    await until_told(point, [(7, None), (0, "P1")])
    assert endings(point)[1] == ("zero", 0, "P1")


@pytest.mark.feature("003-D2")
async def test_a_meter_that_was_read_while_it_moved_refuses_nobody(tmp_path: Path) -> None:
    """The transaction comes before IDLE, and its record tells no totaliser."""
    gaps = TOTALISER_GAPS.labels(1, FP, 1)
    counted = gaps._value.get()
    device = bare(Board(), tells_total=True)
    point = await ready_point(device, tmp_path)
    device.total = device.meter(1_020_000)
    becomes(device, point, FUELLING)
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    device.total = device.meter(OWN[3])
    becomes(device, point, IDLE)
    await quiet(point)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    assert gaps._value.get() == counted


@pytest.mark.feature("003-D2")
async def test_a_sale_read_by_a_late_meter_is_not_the_rebuilt_one_before(tmp_path: Path) -> None:
    device = bare(Board(), tells_total=True)
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    point.heard(running(5_000, 680))
    device.total = device.meter(OWN[3])
    becomes(device, point, IDLE)
    await until(lambda: len(sales(point)) == 1)
    assert endings(point) == [("synthesised", 0, "P1")]
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    total = device.total
    fills(device, NEXT)
    device.total = total
    point.heard(payable(8))
    await until(lambda: len(sales(point)) == 2)
    assert told(point)[1] == (8, "P2")
