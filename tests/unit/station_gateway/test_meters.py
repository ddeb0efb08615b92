"""A nozzle's fuel as an account: what its totaliser counted and what sales told of it, in any order."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client import authorise as commands
from station_gateway.client.health import TOTALISER_GAPS
from station_gateway.client.meters import Meter, believed, first_meter
from station_gateway.client.point import Point
from tests.unit.station_gateway.hostile_device import FP, IDLE, NOW, NOW_MS, point_of
from tests.unit.station_gateway.lagging_device import Board, becomes, endings, quiet, until
from tests.unit.station_gateway.test_one_fuel_one_sale import NEXT, bare, fills, told
from tests.unit.station_gateway.test_outbox import SALE
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales, stop_command
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable, state, until_told

NOTED = Meter(1_000_000, 27_210, 1_027_210, NOW_MS)
SOLD = replace(SALE, quantity_milli=27_210, totaliser_after_milli=1_027_210, recorded_at=NOW)


@pytest.mark.parametrize(
    ("total", "beyond"),
    [(1_000_000, 0), (1_000_020, 0), (1_000_030, 30), (999_980, 0), (999_970, -30), (1_027_210, 27_210)],
)
def test_what_rounding_explains_is_no_fuel(total: int, beyond: int) -> None:
    assert Meter(1_000_000, 0, 1_000_000).beyond(total) == beyond


@pytest.mark.parametrize(
    ("total", "settled", "final", "is_believed"),
    [
        (1_027_210, False, False, True),
        (1_027_190, False, False, True),  # it rounds
        (1_027_000, False, False, False),  # it may be on its way
        (1_026_211, True, False, True),  # it counts whole litres
        (1_026_210, True, False, True),  # it has moved
        (1_000_000, True, False, False),  # it lags still
        (1_000_000, True, True, True),  # nothing lags as long
        (999_990, False, False, True),  # it begins anew
    ],
)
def test_a_lower_reading_lags_or_rounds_or_begins_anew(
    total: int, settled: bool, final: bool, is_believed: bool
) -> None:
    meter = Meter(1_027_210, 0, 1_000_000)
    assert meter.is_believed(total, is_settled=settled, is_final=final) is is_believed


@pytest.mark.parametrize(("lower", "is_believed"), [(999, True), (1_000, False)])
def test_a_meter_that_has_not_moved_is_coarse_below_one_unit(lower: int, is_believed: bool) -> None:
    meter = Meter(1_000_000, 0, 1_000_000 - lower)
    assert meter.is_believed(1_000_000 - lower, is_settled=True, is_final=False) is is_believed


@pytest.mark.parametrize(
    ("total_after", "is_orders", "later_s", "due", "noted"),
    [
        (1_027_210, False, 0, 1_027_210, 0),  # it has not moved since: the late one
        (1_054_420, False, 0, 1_027_210, 27_210),  # a fill of its own
        (1_037_210, False, 0, 1_027_210, 10_000),  # the late one; the next fill runs
        (None, False, 0, 1_027_210, 0),
        (1_027_210, True, 0, 1_054_420, 0),  # it was released over the gap
        (1_027_210, False, 9.9, 1_027_210, 0),
        (1_027_210, False, 10, 1_054_420, 0),  # too late to be the gap's
        (1_027_210, False, -1, 1_054_420, 0),  # a clock that was set back
    ],
)
def test_whose_fuel_a_sale_after_a_gap_tells(
    total_after: int | None, is_orders: bool, later_s: float, due: int, noted: int
) -> None:
    sale = replace(SOLD, totaliser_after_milli=total_after, recorded_at=NOW + timedelta(seconds=later_s))
    after = NOTED.after(sale, is_orders=is_orders, in_record=False)
    assert after == Meter(due, noted, 1_027_210, NOW_MS)


@pytest.mark.parametrize("later_s", [-3600, 60])
def test_age_does_not_matter_where_the_totaliser_speaks_or_nobody_could_read(later_s: int) -> None:
    late = replace(SOLD, recorded_at=NOW + timedelta(seconds=later_s))
    told = Meter(1_027_210, 0, 1_027_210, NOW_MS)
    assert NOTED.after(late, is_orders=False, in_record=True) == told
    assert NOTED.after(replace(late, offline=True), is_orders=False, in_record=False) == told
    assert NOTED.after(late, is_orders=False, in_record=False) != told


@pytest.mark.parametrize(
    ("read", "total_after", "in_record", "due"),
    [
        (1_000_000, 1_027_230, False, 1_027_230),
        (1_000_000, 1_027_240, False, 1_027_210),
        (1_000_000, 1_027_230, True, 1_027_230),
        (1_000_000, 1_027_500, True, 1_027_210),  # fuel that nobody tells of
        (1_000_000, 1_027_000, True, 1_027_000),  # both in whole litres
        (1_000_000, 1_028_000, True, 1_028_000),
        (1_000_000, 1_029_000, True, 1_027_210),
        (1_000_340, 1_027_000, True, 1_027_210),
        (1_000_000, 1_027_000, False, 1_027_210),
    ],
)
def test_a_totaliser_that_agrees_takes_the_rounding_back(
    read: int, total_after: int, in_record: bool, due: int
) -> None:
    sale = replace(SOLD, totaliser_after_milli=total_after)
    meter = Meter(1_000_000, 0, read).after(sale, is_orders=False, in_record=in_record)
    assert meter == Meter(due, 0, read)


def test_what_is_believed_and_what_stays_noted() -> None:
    assert believed(None, 5) == Meter(5, 0, 5)
    assert believed(NOTED, 1_027_220) == Meter(1_000_010, 27_210, 1_027_220, NOW_MS)
    assert believed(NOTED, 1_000_000) == Meter(1_000_000, 0, 1_000_000)
    assert NOTED.noted(1_030_000, NOW) == Meter(1_000_000, 30_000, 1_030_000, NOW_MS)
    assert first_meter(SOLD) == Meter(1_027_210, 0, 1_000_000)
    assert first_meter(replace(SOLD, totaliser_after_milli=None)) is None


def meter(point: Point) -> Meter:
    """Return the account of nozzle 1."""
    known = point.outbox.meter(1, FP, 1)
    assert known is not None
    return known


async def told_after_a_gap(device: Board, folder: Path, *, in_records: bool = False) -> Point:
    """A post-paid fill: the meter moves at once, its transaction comes after an order was refused for it."""
    bare(device, tells_total=True)
    device.tells_total_after = in_records
    point = await ready_point(device, folder)
    becomes(device, point, FUELLING)
    device.total = device.meter(OWN[3])
    becomes(device, point, IDLE)
    await quiet(point)
    assert (await authorise(point, "P0")).code == "FP_BUSY"
    device.buffer = [OWN]
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    return point


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("in_records", [True, False])
async def test_fuel_that_was_noted_as_a_gap_is_counted_once(tmp_path: Path, in_records: bool) -> None:
    device = Board()
    point = await told_after_a_gap(device, tmp_path, in_records=in_records)
    assert (meter(point).stands_milli, meter(point).noted_milli) == (OWN[3], 0)
    assert (await authorise(point, "P1")).state is CommandState.ACCEPTED
    assert (await commands.stop(point, stop_command())).state is CommandState.ACCEPTED
    assert endings(point)[1] == ("zero", 0, "P1")


@pytest.mark.feature("003-D2")
async def test_an_equal_fill_whose_transaction_is_lost_is_not_nothing(tmp_path: Path) -> None:
    device = Board()
    point = await told_after_a_gap(device, tmp_path)
    assert (await authorise(point, "P1")).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    device.total = device.meter(OWN[3] + 27_210)
    becomes(device, point, IDLE)
    await until(lambda: len(sales(point)) == 2)
    assert endings(point)[1] == ("synthesised", 0, "P1")
    assert sales(point)[1]["m"] == 27_210


@pytest.mark.feature("003-D2")
async def test_the_next_untold_fill_after_a_gap_that_was_told_is_seen(tmp_path: Path) -> None:
    device = Board()
    point = await told_after_a_gap(device, tmp_path)
    becomes(device, point, FUELLING)
    device.total = device.meter(OWN[3] + 6_800)
    becomes(device, point, IDLE)
    await quiet(point)
    assert (await authorise(point, "P1")).code == "FP_BUSY"


@pytest.mark.feature("003-D2")
async def test_a_gap_is_no_obstacle_twice(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    device.total = device.meter(OWN[3])
    becomes(device, point, IDLE)
    await quiet(point)
    assert (await authorise(point, "P0")).code == "FP_BUSY"
    assert (await authorise(point, "P1")).state is CommandState.ACCEPTED
    becomes(device, point, IDLE)
    await until_told(point, [(0, "P1")])
    assert endings(point) == [("zero", 0, "P1")]


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("tells_total", [True, False])
@pytest.mark.parametrize("flows", [False, True])
async def test_two_transactions_read_at_once_are_no_gap(
    tmp_path: Path, flows: bool, tells_total: bool
) -> None:
    gaps = TOTALISER_GAPS.labels(1, FP, 1)
    device = bare(Board(), tells_total=True)
    device.tells_total_after = tells_total
    point = await ready_point(device, tmp_path)
    point.offline()
    fills(device, OWN, NEXT)
    if flows:
        device.state = FUELLING
    counted = gaps._value.get()
    await point.start(open_point=False)
    assert told(point) == [(7, None), (8, None)]
    assert meter(point).stands_milli == NEXT[3]
    assert gaps._value.get() == counted


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("killed", [False, True])
async def test_a_gap_is_known_to_the_next_connection(tmp_path: Path, killed: bool) -> None:
    device = bare(Board(), tells_total=True)
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    point.offline()
    device.state, device.total = IDLE, device.meter(OWN[3])
    await point.start(open_point=False)
    assert meter(point) == NOTED
    device.buffer = [OWN]
    if killed:
        point.outbox.close()
        point = point_of(device, tmp_path)
        device.state = FUELLING
        await point.start(open_point=False)
        becomes(device, point, IDLE)
    else:
        point.heard(payable(7))
    await until_told(point, [(7, None)])
    await quiet(point)
    assert meter(point).stands_milli == OWN[3]


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("after", [1_027_200, 1_027_220, 1_027_000])
async def test_a_meter_that_rounds_asks_for_nobody(tmp_path: Path, after: int) -> None:
    device = bare(Board(), tells_total=True)
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    fills(device, (*OWN[:3], after))
    point.heard(payable(7))
    point.heard(state(IDLE))
    await until_told(point, [(7, None)])
    assert (await authorise(point, "P1")).state is CommandState.ACCEPTED
    assert meter(point) == Meter(after, 0, after)
    assert (await commands.stop(point, stop_command())).state is CommandState.ACCEPTED
    assert endings(point)[1] == ("zero", 0, "P1")


@pytest.mark.feature("003-D2")
async def test_untold_fuel_as_much_as_the_last_sale_is_not_explained_by_it(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    fills(device, OWN)
    point.heard(state(IDLE))
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    second = (8, 20_000, 2_721, OWN[3] + 27_210)
    becomes(device, point, FUELLING)
    device.total = device.meter(second[3])
    becomes(device, point, IDLE)
    await quiet(point)
    assert (await authorise(point, "P1")).code == "FP_BUSY"
    device.buffer = [second]
    point.heard(payable(8))
    await until_told(point, [(7, None), (8, None)])


@pytest.mark.feature("003-D2")
async def test_a_gap_as_large_as_the_last_sale_is_counted(tmp_path: Path) -> None:
    gaps = TOTALISER_GAPS.labels(1, FP, 1)
    device = Board()
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    fills(device, OWN)
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    point.offline()
    device.total = device.meter(OWN[3] + 27_210)
    counted = gaps._value.get()
    await point.start(open_point=False)
    assert gaps._value.get() == counted + 1


@pytest.mark.feature("003-D2")
async def test_a_meter_that_begins_anew_is_believed(tmp_path: Path) -> None:
    device = bare(Board(), tells_total=True)
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    fills(device, (*OWN[:3], 500_000))
    point.heard(payable(7))
    point.heard(state(IDLE))
    await until_told(point, [(7, None)])
    assert (await authorise(point)).state is CommandState.ACCEPTED
    assert meter(point) == Meter(500_000, 0, 500_000)


@pytest.mark.feature("003-D2")
async def test_one_number_and_a_meter_that_is_read_early_are_two_sales(tmp_path: Path) -> None:
    device = bare(Board(), tells_total=True)
    point = await ready_point(device, tmp_path)
    becomes(device, point, FUELLING)
    fills(device, OWN)
    point.heard(payable(7))
    point.heard(state(IDLE))
    await until_told(point, [(7, None)])
    becomes(device, point, FUELLING)
    device.state = IDLE
    device.buffer = [(7, 5_000, 680, 0)]  # the meter has not moved yet
    point.heard(payable(7))
    point.heard(state(IDLE))
    await quiet(point)
    assert [one["a"] for one in sales(point)] == [20_000, 5_000]
