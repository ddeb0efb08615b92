"""Whose fuel it is: what a post-paid customer took never becomes the next prepaid order's."""

import asyncio
from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client import releases
from station_gateway.client.health import TOTALISER_GAPS
from station_gateway.client.point import Point
from station_gateway.protocols.ifsf.ids import FpId
from station_gateway.protocols.ifsf.messages import Message
from tests.unit.station_gateway.hostile_device import FP, IDLE
from tests.unit.station_gateway.lagging_device import (
    BUFFER,
    METER,
    Board,
    becomes,
    lifted,
    postpaid_point,
    quiet,
    until,
)
from tests.unit.station_gateway.test_one_fuel_one_sale import NEXT, back, fills, told
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point
from tests.unit.station_gateway.test_unreadable_buffers import CALLING, FUELLING, payable, state, until_told


@pytest.mark.feature("003-D2")
async def test_a_fill_that_ends_while_an_order_is_checked_is_not_the_orders(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    device.after(BUFFER, lambda: fills(device, OWN))
    result = await authorise(point, seen=False)
    device.catch_up()
    point.heard(payable(7))
    point.heard(state(IDLE))
    await until_told(point, [(7, None)])
    assert (result.state, result.code, device.releases) == (CommandState.REFUSED, "FP_BUSY", 0)


async def after_a_fill(device: Board, folder: Path) -> Point:
    """Return a point whose post-paid customer has hung up: the meter has moved, the transaction is not written yet."""
    point = await ready_point(device, folder)
    becomes(device, point, FUELLING)
    device.total = device.meter(OWN[3])
    becomes(device, point, IDLE)
    await quiet(point)
    assert told(point) == []
    return point


@pytest.mark.feature("003-D2")
async def test_an_order_before_the_transaction_of_the_fuel_that_flowed_is_refused(tmp_path: Path) -> None:
    device = Board()
    point = await after_a_fill(device, tmp_path)
    result = await authorise(point)
    assert (result.state, result.code, device.releases) == (CommandState.REFUSED, "FP_BUSY", 0)
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    fills(device, NEXT)
    point.heard(payable(8))
    await until_told(point, [(7, None), (8, "P2")])


@pytest.mark.feature("003-D2")
async def test_a_transaction_that_comes_while_the_order_waits_is_told_before_it(tmp_path: Path) -> None:
    device = Board()
    point = await after_a_fill(device, tmp_path)
    device.after(METER, lambda: device.buffer.append(OWN))
    assert (await authorise(point)).state is CommandState.ACCEPTED
    assert told(point) == [(7, None)]
    fills(device, NEXT)
    point.heard(payable(8))
    await until_told(point, [(7, None), (8, "P1")])


@pytest.mark.feature("003-D2")
async def test_fuel_whose_transaction_never_comes_is_a_gap_and_refuses_one_order_only(tmp_path: Path) -> None:
    gaps = TOTALISER_GAPS.labels(1, FP, 1)
    counted = gaps._value.get()
    device = Board()
    point = await after_a_fill(device, tmp_path)
    assert (await authorise(point)).code == "FP_BUSY"
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    assert (gaps._value.get(), device.releases) == (counted + 1, 1)


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("ends_well", [True, False])
async def test_a_meter_that_moved_without_a_fill_is_a_gap_and_refuses_nobody(
    tmp_path: Path, ends_well: bool
) -> None:
    """Once a sale told of the fuel that flowed, no fuel is waited for; an order that took none leaves none either."""
    gaps = TOTALISER_GAPS.labels(1, FP, 1)
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    if ends_well:
        point.heard(state(FUELLING))
        fills(device, OWN)
    becomes(device, point, IDLE)
    await until_told(point, [(7 if ends_well else 0, "P1")])
    counted = gaps._value.get()
    device.total = device.meter(1_099_000)
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    assert gaps._value.get() == counted + 1


@pytest.mark.feature("003-D2")
async def test_a_sale_that_is_told_while_other_fuel_flows_does_not_tell_of_that_fuel(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    becomes(device, point, FUELLING)
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    device.total = device.meter(NEXT[3])
    becomes(device, point, IDLE)
    await quiet(point)
    assert ((await authorise(point)).code, device.releases) == ("FP_BUSY", 0)


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("restarted", [False, True])
async def test_fuel_that_may_have_flowed_while_nobody_looked_is_waited_for(
    tmp_path: Path, restarted: bool
) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    point = await back(device, tmp_path, point, restarted=restarted)
    device.total = device.meter(NEXT[3])
    assert (await authorise(point)).code == "FP_BUSY"
    device.buffer = [NEXT]
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    assert told(point) == [(7, None), (8, None)]


@pytest.mark.feature("003-D2")
async def test_a_nozzle_released_for_a_post_paid_customer_is_not_released_for_an_order_too(
    tmp_path: Path,
) -> None:
    device = Board()
    point = await postpaid_point(device, tmp_path)
    device.reported, device.nozzles_out = CALLING, 1  # for up to 2 s after it has taken the release
    point.heard(lifted())
    await until(lambda: device.releases)
    await quiet(point)
    order = asyncio.create_task(authorise(point, seen=False))
    await asyncio.sleep(0.05)
    assert not order.done(), "it waits for what the release comes to"
    device.reported = FUELLING
    point.heard(lifted(FUELLING))
    result = await order
    assert (result.state, result.code, device.releases) == (CommandState.REFUSED, "FP_BUSY", 1)
    device.reported = None
    fills(device, OWN)
    point.heard(state(IDLE))
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    device.nozzles_out = 0
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED


@pytest.mark.feature("003-D2")
async def test_a_refused_post_paid_release_keeps_no_order_waiting(tmp_path: Path) -> None:
    class Refuses(Board):
        refuses = True

        async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
            """Refuse a release."""
            if self.refuses and FpId.RELEASE in [number for number, _ in items]:
                self.written.append(FpId.RELEASE)
                return self._ack(5, ((FpId.RELEASE, 3),))
            return await super().write(database, *items)

    device = Refuses()
    point = await postpaid_point(device, tmp_path)
    device.state, device.nozzles_out = CALLING, 1
    point.heard(lifted())
    await until(lambda: FpId.RELEASE in device.written)
    await quiet(point)
    device.refuses = False
    assert (await authorise(point, seen=False)).state is CommandState.ACCEPTED
    assert FpId.TERMINATE not in device.written


@pytest.mark.feature("003-D2")
async def test_messages_of_an_end_do_not_pile_up_work(tmp_path: Path) -> None:
    device = Board()
    point = await postpaid_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    fills(device, OWN)
    async with point.lock:
        for _ in range(200):
            point.heard(state(IDLE))
        for _ in range(200):
            point.heard(payable(7))
        waiting = len(point.background.tasks)
    assert waiting < 5
    await until_told(point, [(7, "P1")])


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("refuses_a_second", [False, True])
async def test_a_lifted_nozzle_that_is_reported_again_and_again_is_released_once(
    tmp_path: Path, refuses_a_second: bool
) -> None:
    """A release that the board refuses, since it has taken one, would free the way for an order in the lag."""

    class OneOnly(Board):
        asked_twice = False

        async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
            """Take one release."""
            if FpId.RELEASE in [number for number, _ in items] and self.releases and refuses_a_second:
                self.asked_twice = True
                return self._ack(5, ((FpId.RELEASE, 3),))
            return await super().write(database, *items)

    device = OneOnly()
    point = await postpaid_point(device, tmp_path)
    device.reported, device.nozzles_out = CALLING, 1  # for up to 2 s after it has taken the release
    async with point.lock:
        for _ in range(200):
            point.heard(lifted())
        await until(lambda: len(point.background.tasks) < 5)
    await until(lambda: device.releases)
    for _ in range(5):
        point.heard(lifted())
        await asyncio.sleep(0)
    order = asyncio.create_task(authorise(point, seen=False))
    await asyncio.sleep(0.05)
    device.reported = FUELLING
    point.heard(lifted(FUELLING))
    assert (await order).code == "FP_BUSY"
    assert (device.releases, device.asked_twice) == (1, False)
    device.reported = None
    fills(device, OWN)
    point.heard(state(IDLE))
    await until_told(point, [(7, None)])


@pytest.mark.feature("003-D2")
async def test_a_post_paid_release_that_is_lost_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "RELEASE_GRACE_S", 0.05)
    device = Board()
    point = await postpaid_point(device, tmp_path)
    device.reported, device.nozzles_out = CALLING, 1
    point.heard(lifted())
    await until(lambda: device.releases)
    point.heard(state(IDLE))  # the customer hangs up and lifts again
    point.heard(lifted())
    await until(lambda: device.releases == 2)
