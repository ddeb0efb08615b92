"""A board whose clock stands still, and that tells no totaliser: a number that comes again is another sale."""

from pathlib import Path

import pytest

from station_gateway.client.point import Point
from station_gateway.protocols.ifsf.ids import TransactionId
from station_gateway.protocols.uplink.bodies import parse_sale
from tests.unit.station_gateway.hostile_device import IDLE, NOW_MS
from tests.unit.station_gateway.lagging_device import Board, becomes, quiet
from tests.unit.station_gateway.test_one_fuel_one_sale import back
from tests.unit.station_gateway.test_point import ready_point, sales
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable

FIRST, SECOND, ANEW = (1, 20_000, 2_721, 1_027_210), (2, 5_000, 680, 1_034_010), (1, 30_000, 4_082, 1_074_830)


class StoppedClock(Board):
    """Has no battery: its clock begins with the year 2000 and stays there."""

    def __init__(self) -> None:
        super().__init__()
        self.tells_total_after = False
        self.date = b"\x20\0\1\1"

    def _transaction(
        self, sequence: int, fen: int, centi: int, after: int
    ) -> tuple[bytes, tuple[tuple[int, bytes], ...]]:
        database, items = super()._transaction(sequence, fen, centi, after)
        clock = (TransactionId.DATE, self.date), (TransactionId.TIME, bytes(3))
        return database, (*items, *clock)


async def somebody_fills(point: Point, device: Board, transaction: tuple[int, int, int, int]) -> None:
    """A fill of no order is told."""
    becomes(device, point, FUELLING)
    device.buffer, device.total = [transaction], device.meter(transaction[3])
    becomes(device, point, IDLE)
    point.heard(payable(transaction[0]))
    await quiet(point)


@pytest.mark.feature("003-E1")
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_board_that_counts_anew_loses_no_sale(tmp_path: Path, restarted: bool) -> None:
    """Else the sale is taken for the one that had its number, is not stored, and is cleared at the dispenser."""
    device = StoppedClock()
    point = await ready_point(device, tmp_path)
    await somebody_fills(point, device, FIRST)
    await somebody_fills(point, device, SECOND)
    point = await back(device, tmp_path, point, restarted=restarted)
    await somebody_fills(point, device, ANEW)
    assert [(one["q"], one["m"]) for one in sales(point)] == [(1, 27_210), (2, 6_800), (1, 40_820)]


@pytest.mark.feature("003-D3")
async def test_a_key_that_only_the_cloud_remembers_is_not_given_again(tmp_path: Path) -> None:
    """The station forgets what it has sent up; the cloud never does, and drops what has a key that it knows."""
    device = StoppedClock()
    point = await ready_point(device, tmp_path)
    await somebody_fills(point, device, FIRST)
    (first,) = sales(point)
    point.outbox.acknowledge([event.seq for event in point.outbox.pending(9)], NOW_MS)
    point.outbox.prune(NOW_MS + 1)
    await somebody_fills(point, device, ANEW)
    (second,) = sales(point)
    assert second["k"] != first["k"]


@pytest.mark.feature("003-D3")
@pytest.mark.parametrize("date", ["19700101", "19000101", "00010101"])
async def test_a_clock_that_begins_before_1970_costs_no_sale_and_no_dispenser(
    tmp_path: Path, date: str
) -> None:
    """In Beijing 1970 begins 8 hours before the times that a body tells; the year 1 begins before UTC has one."""
    device = StoppedClock()
    device.date = bytes.fromhex(date)
    point = await ready_point(device, tmp_path)
    await somebody_fills(point, device, FIRST)
    assert device.buffer == []
    (body,) = sales(point)
    sale = parse_sale("ST", body)
    assert (sale.sequence, sale.quantity_milli, sale.device_time) == (1, 27_210, None)
