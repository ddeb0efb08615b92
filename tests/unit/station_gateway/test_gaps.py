"""The account of a nozzle comes right again, whatever moved it: no fill is nothing, and no unused order is fuel."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client.health import TOTALISER_GAPS
from station_gateway.client.point import Point
from station_gateway.protocols.ifsf.numbers import decode_scaled
from tests.unit.station_gateway.hostile_device import FP, IDLE, NOW
from tests.unit.station_gateway.lagging_device import (
    INOPERATIVE,
    METER,
    Board,
    becomes,
    endings,
    quiet,
    until,
)
from tests.unit.station_gateway.test_one_fuel_one_sale import NEXT, back, bare, fills, told
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales
from tests.unit.station_gateway.test_rebuilt_sales import rebuilt_at
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable, state, until_told

SETTLED_S, LONG_S = 0.05, 0.35
"""More than three, and more than thirty times the patience of these points."""


async def released(point: Point, order_no: str) -> None:
    """An order is released; it may be refused twice for fuel that is not told."""
    codes = []
    for tried in range(3):
        result = await authorise(point, f"{order_no}{tried}")
        codes.append(result.code)
        if result.state is CommandState.ACCEPTED:
            return
    raise AssertionError(codes)


async def unused(point: Point, device: Board, order_no: str = "PU") -> str:
    """An order that nobody uses; return how it ended."""
    await released(point, order_no)
    before = len(sales(point))
    becomes(device, point, IDLE)
    await until(lambda: len(sales(point)) > before)
    await quiet(point)
    return endings(point)[-1][0]


async def unwritten(point: Point, device: Board) -> tuple[str, int]:
    """An order takes 27.21 L and its transaction is lost; return how it ended and with how much."""
    await released(point, "PL")
    before = len(sales(point))
    becomes(device, point, FUELLING)
    assert device.total is not None
    device.total = device.meter(decode_scaled(device.total, 3) + 27_210)
    becomes(device, point, IDLE)
    await until(lambda: len(sales(point)) > before)
    await quiet(point)
    return sales(point)[-1]["e"], sales(point)[-1]["m"]


async def nobodys(point: Point, device: Board, transaction: tuple[int, int, int, int]) -> None:
    """A fill that no order asked for."""
    becomes(device, point, FUELLING)
    fills(device, transaction)
    point.heard(state(IDLE))
    point.heard(payable(transaction[0]))
    await until(lambda: (transaction[0], None) in told(point))
    await quiet(point)


async def with_a_gap(device: Board, folder: Path) -> Point:
    """Return a point at which 100 L flowed while nobody looked; no transaction ever comes."""
    point = await ready_point(device, folder)
    point.offline()
    device.total = device.meter(1_100_000)
    await point.start(open_point=False)
    return point


async def is_unused_above_a_gap_of_old(
    device: Board, folder: Path, transaction: tuple[int, int, int, int]
) -> None:
    """A fill above a gap is read before the meter has counted it; the order right after is not used."""
    point = await with_a_gap(device, folder)
    point.now = lambda: NOW + timedelta(minutes=1)
    becomes(device, point, FUELLING)
    device.buffer = [transaction]
    becomes(device, point, IDLE)
    point.heard(payable(transaction[0]))
    await until_told(point, [(transaction[0], None)])
    await quiet(point)
    assert (await authorise(point, "PB")).state is CommandState.ACCEPTED
    device.total = device.meter(1_127_210)  # now the meter has counted it
    becomes(device, point, IDLE)
    await until(lambda: len(sales(point)) == 2)
    assert endings(point)[-1][0] == "zero"


async def lost_in_the_fill(device: Board, folder: Path, *, in_records: bool) -> Point:
    """P1's fill ends while the wire is gone, and the board has lost its dispenser when it is back."""
    bare(device, tells_total=True)
    device.tells_total_after = in_records
    point = await ready_point(device, folder)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    point.offline()
    device.state, device.total = INOPERATIVE, device.meter(OWN[3])
    await point.start(open_point=False)
    assert sales(point) == []
    return point


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("in_records", [True, False])
@pytest.mark.parametrize("is_written", [True, False])
async def test_what_an_open_order_took_is_no_gap(tmp_path: Path, is_written: bool, in_records: bool) -> None:
    device = Board()
    point = await lost_in_the_fill(device, tmp_path, in_records=in_records)
    device.buffer = [OWN] if is_written else []
    becomes(device, point, IDLE)
    await until(lambda: sales(point))
    await quiet(point)
    assert endings(point) == [("normal", 7, "P1") if is_written else ("synthesised", 0, "P1")]
    await asyncio.sleep(SETTLED_S)
    assert await unused(point, device) == "zero"
    assert await unwritten(point, device) == ("synthesised", 27_210)


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("in_records", [True, False])
async def test_a_transaction_that_is_told_while_its_order_is_rebuilt(
    tmp_path: Path, in_records: bool
) -> None:
    device = bare(Board(), tells_total=True)
    device.tells_total_after = in_records
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    point.offline()
    device.state, device.total = IDLE, device.meter(OWN[3])

    def tells() -> None:
        device.buffer = [OWN]
        point.heard(payable(7))

    def counts_down(left: int) -> None:
        device.after(METER, tells if left == 1 else lambda: counts_down(left - 1))

    counts_down(4)  # after the last look of the settling
    await point.start(open_point=False)
    await until(lambda: (7, "P1") in told(point))
    await quiet(point)
    await asyncio.sleep(SETTLED_S)
    assert await unused(point, device) == "zero"


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("total", [1_027_000, OWN[3]])
async def test_a_rebuilt_orders_transaction_that_nothing_tells_so(tmp_path: Path, total: int) -> None:
    """The meter counts whole litres, or cannot be read just then: a person gets two sales, the next order its own."""
    device = bare(Board(), tells_total=True)
    point = await rebuilt_at(device, tmp_path, total)
    kept, device.total = device.total, device.total if total != OWN[3] else None
    device.buffer = [OWN]
    point.heard(payable(7))
    await until(lambda: len(sales(point)) == 2)
    await quiet(point)
    device.total = kept
    await asyncio.sleep(LONG_S)
    assert await unused(point, device) == "zero"


@pytest.mark.feature("003-D2")
async def test_a_rebuilt_orders_own_transaction_moves_no_meter(tmp_path: Path) -> None:
    device = bare(Board(), tells_total=True)
    point = await rebuilt_at(device, tmp_path, OWN[3])
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(0, "P1"), (7, "P1")])
    assert await unwritten(point, device) == ("synthesised", 27_210)


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_totaliser_that_was_set_back_above_its_last_reading(tmp_path: Path, restarted: bool) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    await nobodys(point, device, OWN)
    await nobodys(point, device, NEXT)
    device.total = device.meter(1_020_000)
    point = await back(device, tmp_path, point, restarted=restarted)
    await asyncio.sleep(SETTLED_S)
    assert await unused(point, device) == "zero"


@pytest.mark.feature("003-D2")
async def test_a_gap_of_old_does_not_swallow_a_fill_that_is_read_early(tmp_path: Path) -> None:
    await is_unused_above_a_gap_of_old(bare(Board(), tells_total=True), tmp_path, OWN)


@pytest.mark.feature("003-D2")
async def test_a_totaliser_of_nothing_tells_of_no_gap(tmp_path: Path) -> None:
    await is_unused_above_a_gap_of_old(Board(), tmp_path, (*OWN[:3], 0))


@pytest.mark.feature("003-D2")
async def test_one_number_read_early_above_a_gap_is_two_sales(tmp_path: Path) -> None:
    device = bare(Board(), tells_total=True)
    point = await with_a_gap(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    fills(device, (7, 20_000, 2_721, 1_127_210))
    point.heard(payable(7))
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])
    becomes(device, point, FUELLING)
    device.state = IDLE
    device.buffer = [(7, 5_000, 680, 0)]  # the meter has not moved yet
    point.heard(payable(7))
    point.heard(state(IDLE))
    await quiet(point)
    assert [one["a"] for one in sales(point)] == [20_000, 5_000]


@pytest.mark.feature("003-D2")
async def test_one_reading_of_nothing_is_read_again(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    good, device.total = device.total, device.meter(0)
    device.after(METER, lambda: setattr(device, "total", good))
    assert await unused(point, device) == "zero"
    assert (sales(point)[0]["m"], sales(point)[0]["a"]) == (0, 0)


@pytest.mark.feature("003-D2")
async def test_a_zero_transaction_is_not_the_rebuilt_orders_fuel(tmp_path: Path) -> None:
    device = Board()
    point = await rebuilt_at(device, tmp_path, OWN[3])
    device.buffer = [(8, 0, 0, OWN[3])]
    point.heard(payable(8))
    await until(lambda: len(sales(point)) == 2)
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    device.buffer = [OWN]
    point.heard(payable(7))
    await until(lambda: len(sales(point)) == 3)
    assert told(point)[-1] == (7, "P1")


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("in_records", [True, False])
async def test_many_fills_that_are_cut_off_are_no_gap(tmp_path: Path, in_records: bool) -> None:
    """A record says 27.94 where the meter counted 27.948."""
    device = bare(Board(), tells_total=True)
    device.tells_total_after = in_records
    point = await ready_point(device, tmp_path)
    counted = TOTALISER_GAPS.labels(1, FP, 1)._value.get()
    for number in range(9):
        total = (1_000_000 + 27_948 * (number + 1)) // 10 * 10
        await nobodys(point, device, (10 + number, 19_558, 2_794, total))
    assert (await authorise(point)).state is CommandState.ACCEPTED
    assert TOTALISER_GAPS.labels(1, FP, 1)._value.get() == counted


@pytest.mark.feature("003-D2")
async def test_a_gaps_transaction_that_ended_an_order_leaves_no_trace(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    device.total = device.meter(OWN[3])
    becomes(device, point, IDLE)
    await quiet(point)
    await released(point, "P")  # the second time
    device.buffer = [OWN]
    point.heard(payable(7))
    await until(lambda: sales(point))
    becomes(device, point, IDLE)
    await quiet(point)
    await asyncio.sleep(LONG_S)
    assert await unused(point, device) == "zero"


@pytest.mark.feature("003-D2")
async def test_an_order_waits_for_a_meter_that_lags_a_little(tmp_path: Path) -> None:
    device = bare(Board(), tells_total=True)
    point = await ready_point(device, tmp_path)
    assert await unused(point, device, "PA") == "zero"
    becomes(device, point, FUELLING)
    device.buffer = [(7, 500, 68, 0)]
    becomes(device, point, IDLE)
    point.heard(payable(7))
    await until(lambda: (7, None) in told(point))
    await quiet(point)
    point._settle_retry_s = 0.2  # the board may lag longer than this test takes on a busy machine
    device.after(METER, lambda: setattr(device, "total", device.meter(1_000_680)))
    assert await unused(point, device) == "zero"
    assert sales(point)[-1]["y"] == 1_000_680


@pytest.mark.feature("003-D2")
async def test_a_second_gap_on_top_of_the_first_is_told_by_both_sales(tmp_path: Path) -> None:
    device = bare(Board(), tells_total=True)
    point = await ready_point(device, tmp_path)
    for total in (OWN[3], NEXT[3]):
        point.offline()
        device.total = device.meter(total)
        await point.start(open_point=False)
    device.buffer = [OWN, NEXT]
    point.heard(payable(7))
    point.heard(payable(8))
    await until_told(point, [(7, None), (8, None)])
    await quiet(point)
    known = point.outbox.meter(1, FP, 1)
    assert known is not None
    assert (known.due_milli, known.noted_milli) == (NEXT[3], 0)
