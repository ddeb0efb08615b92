"""Somebody fills in stand-alone mode just before or after an order: what the states told of is not the next order's."""

import asyncio
from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.protocols.ifsf.ids import price_db
from station_gateway.protocols.ifsf.messages import Message
from tests.unit.station_gateway.hostile_device import IDLE
from tests.unit.station_gateway.lagging_device import METER, Board, becomes, until
from tests.unit.station_gateway.test_lost_dispensers import LONG_S, PATIENCE_S, patient_point, writes
from tests.unit.station_gateway.test_one_fuel_one_sale import NEXT, told
from tests.unit.station_gateway.test_point import OWN, authorise
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable

PRICE = len(price_db(92))


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("tells_total_after", [False, True])
async def test_a_fill_that_follows_an_orders_is_not_told_by_the_orders_sale(
    tmp_path: Path, tells_total_after: bool
) -> None:
    """It runs when the order's transaction is read, and its own is written after the next order was asked for."""
    device = Board()
    device.tells_total_after = tells_total_after
    point = await patient_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    for state in (FUELLING, IDLE, FUELLING):
        becomes(device, point, state)
    device.buffer, device.total = [OWN], device.meter(OWN[3])
    point.heard(payable(7))
    await until(lambda: told(point) == [(7, "P1")])
    becomes(device, point, IDLE)
    asyncio.get_running_loop().call_later(1.5 * PATIENCE_S, writes, point, device, NEXT)
    await authorise(point, "P2")
    await until(lambda: told(point) == [(7, "P1"), (8, None)])


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("asked", [METER, PRICE])
async def test_a_fill_that_begins_and_ends_while_an_order_is_checked_is_waited_for(
    tmp_path: Path, asked: int
) -> None:
    device = Board()
    point = await patient_point(device, tmp_path)

    def somebody_fills() -> None:
        becomes(device, point, FUELLING)
        becomes(device, point, IDLE)
        asyncio.get_running_loop().call_later(1.5 * PATIENCE_S, writes, point, device, OWN)

    await asyncio.sleep(LONG_S)  # nothing lags any more
    device.after(asked, somebody_fills)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    await until(lambda: told(point) == [(7, None)])


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("begins_while_asked", [False, True])
async def test_a_fill_that_is_written_while_a_board_answers_slowly_is_not_the_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, begins_while_asked: bool
) -> None:
    """Its buffer was read before; that the point rests long enough when the totaliser is told says nothing of that."""
    device = Board()
    point = await patient_point(device, tmp_path)
    read = device.read

    async def slowly(database: bytes, ids: bytes) -> Message:
        answer = await read(database, ids)
        if len(database) == METER:
            await asyncio.sleep(LONG_S)
        return answer

    def somebody_fills() -> None:
        becomes(device, point, FUELLING)
        becomes(device, point, IDLE)
        asyncio.get_running_loop().call_later(1.5 * PATIENCE_S, writes, point, device, OWN)

    monkeypatch.setattr(device, "read", slowly)
    if begins_while_asked:
        await asyncio.sleep(LONG_S)
        device.after(METER, somebody_fills)
    else:
        somebody_fills()
    await authorise(point)
    await until(lambda: told(point) == [(7, None)])
