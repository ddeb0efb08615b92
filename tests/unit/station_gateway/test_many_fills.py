"""Several fills before an order: each is told by a sale of its own, and none of them is the order's."""

from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.protocols.ifsf.ids import FpId
from station_gateway.protocols.ifsf.messages import Message
from tests.unit.station_gateway.hostile_device import IDLE
from tests.unit.station_gateway.lagging_device import BUFFER, METER, Board, becomes, quiet, running, until
from tests.unit.station_gateway.test_one_fuel_one_sale import NEXT, told
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales
from tests.unit.station_gateway.test_rebuilt_sales import rebuilt_at
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable, until_told

PATIENT_S = 0.2
"""Three times this a board may lag: longer than a test takes on a busy machine."""


@pytest.mark.feature("003-D2")
async def test_the_first_of_two_fills_is_told_after_the_second_ended(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    for _ in range(2):
        becomes(device, point, FUELLING)
        becomes(device, point, IDLE)
        await quiet(point)
    device.total = device.meter(NEXT[3])
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    assert (await authorise(point, "P1")).code == "FP_BUSY"
    device.buffer = [NEXT]
    point.heard(payable(8))
    await until_told(point, [(7, None), (8, None)])


@pytest.mark.feature("003-D2")
async def test_a_fill_while_nobody_looked_is_waited_for_behind_the_one_that_was_told(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    point.offline()
    device.state = IDLE
    device.buffer, device.total = [OWN], device.meter(NEXT[3])
    await point.start(open_point=False)
    assert told(point) == [(7, None)]
    point._settle_retry_s = PATIENT_S
    device.after(METER, lambda: device.buffer.append(NEXT))
    assert (await authorise(point, "P1")).state is CommandState.ACCEPTED
    assert told(point) == [(7, None), (8, None)]


@pytest.mark.feature("003-D2")
async def test_a_board_that_tells_nothing_while_its_pump_flows(tmp_path: Path) -> None:
    """The first fill is told when the second has ended, the second a moment later."""

    class TellsAtRest(Board):
        async def read(self, database: bytes, ids: bytes) -> Message:
            if len(database) == BUFFER and self.state == FUELLING:
                return self._ack(9)
            return await super().read(database, ids)

    device = TellsAtRest()
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    becomes(device, point, IDLE)
    await quiet(point)
    becomes(device, point, FUELLING)
    device.buffer = [OWN]
    point.heard(payable(7))
    device.total = device.meter(NEXT[3])
    becomes(device, point, IDLE)
    await until_told(point, [(7, None)])
    point._settle_retry_s = PATIENT_S
    device.after(METER, lambda: device.buffer.append(NEXT))
    await authorise(point, "P1")
    device.catch_up()
    point.heard(payable(8))
    await until(lambda: len(sales(point)) == 2)
    assert told(point) == [(7, None), (8, None)]


@pytest.mark.feature("003-D2")
async def test_a_refused_order_does_not_tell_of_the_fuel_before(tmp_path: Path) -> None:
    class Refuses(Board):
        refuses = True

        async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
            if self.refuses and FpId.RELEASE in [number for number, _ in items]:
                return self._ack(5, ((FpId.RELEASE, 3),))
            return await super().write(database, *items)

    device = Refuses()
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    becomes(device, point, IDLE)
    await quiet(point)
    assert (await authorise(point, "P1")).code == "DEVICE_REFUSED"
    device.refuses, device.total = False, device.meter(OWN[3])
    assert (await authorise(point, "P2")).code == "FP_BUSY"


@pytest.mark.feature("003-D2")
async def test_figures_after_the_orders_sale_are_told_by_it(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    device.buffer, device.total = [OWN], device.meter(OWN[3])
    point.heard(payable(7))
    await until_told(point, [(7, "P1")])
    point.heard(running(20_000, 2_721))
    becomes(device, point, IDLE)
    await quiet(point)
    device.total = device.meter(OWN[3] + 50)
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED


@pytest.mark.feature("003-D2")
async def test_a_rebuilt_orders_own_transaction_tells_of_no_fill_after_it(tmp_path: Path) -> None:
    device = Board()
    point = await rebuilt_at(device, tmp_path, OWN[3])
    becomes(device, point, FUELLING)
    becomes(device, point, IDLE)
    await quiet(point)
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(0, "P1"), (7, "P1")])
    point._settle_retry_s = PATIENT_S
    device.after(METER, lambda: device.buffer.append(NEXT))
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    assert told(point) == [(0, "P1"), (7, "P1"), (8, None)]


@pytest.mark.feature("003-D2")
async def test_one_more_sale_than_fills_were_seen_hides_no_fill(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point, "P0")).state is CommandState.ACCEPTED  # from here on, states are seen
    becomes(device, point, IDLE)
    await until_told(point, [(0, "P0")])
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(0, "P0"), (7, None)])
    becomes(device, point, FUELLING)
    becomes(device, point, IDLE)
    await quiet(point)
    device.total = device.meter(OWN[3])
    point._settle_retry_s = PATIENT_S
    device.after(METER, lambda: device.buffer.append(NEXT))
    assert (await authorise(point, "P1")).state is CommandState.ACCEPTED
    assert told(point)[-1] == (8, None)


@pytest.mark.feature("003-D2")
async def test_a_sale_that_comes_while_fuel_flows_is_of_the_fill_before(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point, "P0")).state is CommandState.ACCEPTED
    becomes(device, point, IDLE)
    await until_told(point, [(0, "P0")])
    becomes(device, point, FUELLING)
    device.buffer, device.total = [OWN], device.meter(OWN[3])
    point.heard(payable(7))
    await until_told(point, [(0, "P0"), (7, None)])
    becomes(device, point, IDLE)
    await quiet(point)
    point._settle_retry_s = PATIENT_S
    device.after(METER, lambda: device.buffer.append(NEXT))
    assert (await authorise(point, "P1")).state is CommandState.ACCEPTED
    assert told(point)[-1] == (8, None)
