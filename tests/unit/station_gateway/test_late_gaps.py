"""Gaps that are told late, small ones, and a meter that counts late after a long rest."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client import authorise as commands
from station_gateway.client.health import TOTALISER_GAPS
from station_gateway.client.lifetime import Lifetime
from station_gateway.protocols.ifsf.ids import TransactionId
from station_gateway.protocols.ifsf.messages import Message
from tests.unit.station_gateway.hostile_device import FP, IDLE, NOW, point_of
from tests.unit.station_gateway.lagging_device import METER, Board, becomes, endings, quiet, until
from tests.unit.station_gateway.test_gaps import LONG_S, SETTLED_S, nobodys, unused, unwritten
from tests.unit.station_gateway.test_one_fuel_one_sale import BusyDevice, bare, told
from tests.unit.station_gateway.test_point import OWN, authorise, authorise_command, ready_point, sales
from tests.unit.station_gateway.test_rebuilt_sales import rebuilt_at
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable, until_told

GAPS = TOTALISER_GAPS.labels(1, FP, 1)._value
STARTED = 6


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("is_filled", [False, True])
@pytest.mark.parametrize("in_records", [False, True])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_gaps_sale_is_read_after_a_second_loss_of_the_wire(
    tmp_path: Path, restarted: bool, in_records: bool, is_filled: bool
) -> None:
    """The wire is back when a fill has just ended, is gone for a minute; then its transaction is read."""
    device = bare(Board(), tells_total=True)
    device.tells_total_after = in_records
    point = await ready_point(device, tmp_path)
    point.offline()
    device.total = device.meter(OWN[3])  # counted; the transaction is written up to 2 s later
    await point.start(open_point=False)
    point.offline()
    device.buffer = [OWN]
    if restarted:
        point.outbox.close()
        point = point_of(device, tmp_path)
    point.now = lambda: NOW + timedelta(minutes=1)
    await point.start(open_point=False)
    assert told(point) == [(7, None)]
    await asyncio.sleep(SETTLED_S)
    if is_filled:
        assert await unwritten(point, device) == ("synthesised", 27_210)
    else:
        assert await unused(point, device) == "zero"


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("rest_s", [0.0, SETTLED_S, LONG_S])
async def test_a_fill_that_no_state_told_of_after_a_long_rest(tmp_path: Path, rest_s: float) -> None:
    device = bare(Board(), tells_total=True)
    point = await ready_point(device, tmp_path)
    assert await unused(point, device, "PA") == "zero"
    await asyncio.sleep(rest_s)
    device.buffer = [OWN]
    point.heard(payable(7))
    await until(lambda: (7, None) in told(point))
    await quiet(point)
    assert (await authorise(point, "P1")).state is CommandState.ACCEPTED
    device.total = device.meter(OWN[3])  # now it counts it
    becomes(device, point, IDLE)
    await until(lambda: len(sales(point)) == 3)
    assert endings(point)[-1] == ("zero", 0, "P1")


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("lost", [300, 900])
async def test_small_fills_that_nobody_tells_are_a_gap(tmp_path: Path, lost: int) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    counted, total = GAPS.get(), 1_000_000
    for number in range(5):
        becomes(device, point, FUELLING)
        device.total = device.meter(total + lost)
        becomes(device, point, IDLE)
        await quiet(point)
        total += lost + 27_210
        await nobodys(point, device, (10 + number, 20_000, 2_721, total))
    point.offline()
    await point.start(open_point=False)
    assert GAPS.get() > counted


@pytest.mark.feature("003-D2")
async def test_records_of_whole_litres_beside_a_finer_meter_are_no_gap(tmp_path: Path) -> None:
    device = Board()
    device.total = device.meter(1_000_340)
    point = await ready_point(device, tmp_path)
    counted, total = GAPS.get(), 1_000_340
    for number in range(6):
        total += 27_210
        becomes(device, point, FUELLING)
        device.buffer = [(10 + number, 20_000, 2_721, total // 1000 * 1000)]
        device.total = device.meter(total)
        becomes(device, point, IDLE)
        point.heard(payable(10 + number))
        await until(lambda wanted=10 + number: (wanted, None) in told(point))  # type: ignore[misc]
        await quiet(point)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    assert GAPS.get() == counted


@pytest.mark.feature("003-D2")
async def test_zero_transactions_are_never_a_rebuilt_orders(tmp_path: Path) -> None:
    device = Board()
    point = await rebuilt_at(device, tmp_path, OWN[3])
    device.buffer = [(8, 0, 0, OWN[3])]
    point.heard(payable(8))
    await until_told(point, [(0, "P1"), (8, None)])
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    becomes(device, point, STARTED)
    device.buffer = [(9, 0, 0, OWN[3])]
    point.heard(payable(9))
    becomes(device, point, IDLE)
    await until_told(point, [(0, "P1"), (8, None), (9, "P2")])


class TwoNozzles(Board):
    """Two meters; transaction 7 is of nozzle 2, the others of nozzle 1."""

    def __init__(self) -> None:
        super().__init__()
        self.totals = {1: 1_000_000, 2: 500_000}

    async def read(self, database: bytes, ids: bytes) -> Message:
        """Answer; a nozzle's meter is its own."""
        if len(database) == METER:
            self.total = self.meter(self.totals[database[1] - 0x10])
        return await super().read(database, ids)

    def _transaction(
        self, sequence: int, fen: int, centi: int, after: int
    ) -> tuple[bytes, tuple[tuple[int, bytes], ...]]:
        database, items = super()._transaction(sequence, fen, centi, after)
        nozzle = b"\2" if sequence == 7 else b"\1"
        return database, tuple(
            (one, nozzle if one == TransactionId.NOZZLE else value) for one, value in items
        )


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("is_reversed", [False, True])
async def test_an_order_that_ended_unseen_tells_of_no_fill_after_it(
    tmp_path: Path, is_reversed: bool
) -> None:
    device = TwoNozzles()
    bare(device, tells_total=True)
    point = point_of(device, tmp_path)
    nozzles = tuple(replace(point.key.config.nozzles[0], nozzle=one, number=one) for one in (1, 2))
    point.key = replace(point.key, config=replace(point.key.config, nozzles=nozzles))
    point._buffer._key = point.key
    await point.start(open_point=False)
    point.offline()
    device.totals[1] = 1_100_000  # no transaction ever came
    await point.start(open_point=False)
    point.now = lambda: NOW + timedelta(minutes=1)
    await asyncio.sleep(SETTLED_S)

    async def released(order_no: str, nozzle: int) -> bool:
        command = authorise_command(order_no)
        command = replace(command, nozzle=nozzle, expires_at=command.expires_at + timedelta(days=3))
        patience = Lifetime(command.expires_at + timedelta(days=1), 600, now=point.now)
        return (await commands.authorise(point, command, patience)).state is CommandState.ACCEPTED

    assert await released("A", 2)
    becomes(device, point, FUELLING)
    point.offline()
    device.state = IDLE
    device.totals[2] += 5_000
    point._settle_retry_s = 0.1  # what follows is well within three times that
    device.buffer = [(7, 20_000, 500, 0), (8, *OWN[1:3], 0)]
    if is_reversed:
        device.buffer.reverse()
    await point.start(open_point=False)
    assert sorted(told(point)) == [(7, "A"), (8, None)]
    later = asyncio.get_running_loop().call_later(0.015, device.totals.update, {1: 1_127_210})
    assert await released("B0", 1) or await released("B1", 1)
    later.cancel()
    await point.refresh()
    device.totals[1] = 1_127_210
    becomes(device, point, IDLE)
    await until(lambda: len(sales(point)) == 3)
    assert endings(point)[-1][0] == "zero"


@pytest.mark.feature("003-E1")
@pytest.mark.parametrize("busy", [1, 4])
async def test_a_gap_is_noted_though_the_device_was_busy_when_it_came_back(tmp_path: Path, busy: int) -> None:
    device = BusyDevice()
    point = await ready_point(device, tmp_path)
    before = GAPS.get()
    point.offline()
    device.total, device.busy = device.meter(OWN[3]), busy
    await point.start(open_point=False)
    assert GAPS.get() == before, "what the device does not tell may be that fuel"
    await quiet(point)
    assert GAPS.get() == before + 1
    assert await point.collect_unpaid(1)
    assert GAPS.get() == before + 1


@pytest.mark.feature("003-E1")
async def test_a_fill_that_runs_when_the_wire_is_back_is_no_gap(tmp_path: Path) -> None:
    """Its transaction is written up to 2 s after the pump is at rest, and the totaliser may have counted it before."""
    device = Board()
    point = await ready_point(device, tmp_path)
    before = GAPS.get()
    point.offline()
    device.state = FUELLING
    await point.start(open_point=False)
    device.total = device.meter(OWN[3])
    becomes(device, point, IDLE)
    await quiet(point)
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    assert GAPS.get() == before
