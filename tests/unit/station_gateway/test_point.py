"""A fuelling point whose dispenser refuses, forgets and lies: no order ends on a guess, no fill loses its order."""

import asyncio
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.station import AuthoriseCommand, CommandResult, CommandState, StopCommand
from station_gateway.client import authorise as commands
from station_gateway.client.commands import CommandDesk
from station_gateway.client.health import CLEARS_REFUSED, FAILURES, SYNTHESISED, TOTALISER_GAPS
from station_gateway.client.lifetime import Lifetime
from station_gateway.client.meters import Meter
from station_gateway.client.point import Point
from station_gateway.protocols.uplink.bodies import loads
from tests.unit.station_gateway.hostile_device import FP, IDLE, NOW, NOW_MS, PRICE, Device, point_of

OLD = (6, 1_000, 136, 1_000_000)
OWN = (7, 20_000, 2_721, 1_027_210)


def authorise_command(order_no: str = "P1", *, expires_in_s: float = 60) -> AuthoriseCommand:
    return AuthoriseCommand(
        command_id=f"auth-{order_no}",
        order_no=order_no,
        station_code="ST",
        node=1,
        fp=FP,
        nozzle=1,
        amount_fen=20_000,
        price_fen_per_unit=PRICE,
        expires_at=NOW + timedelta(seconds=expires_in_s),
    )


def stop_command(order_no: str = "P1") -> StopCommand:
    return StopCommand(
        command_id=f"stop-{order_no}",
        order_no=order_no,
        station_code="ST",
        node=1,
        fp=FP,
        expires_at=NOW + timedelta(seconds=60),
    )


async def authorise(point: Point, order_no: str = "P1", *, seen: bool = True) -> CommandResult:
    """Release for an order; `seen`: the device has reported its new state by then."""
    command = authorise_command(order_no)
    result = await commands.authorise(point, command, Lifetime(command.expires_at, 60, now=lambda: NOW))
    if seen:
        await point.refresh()
    return result


async def ready_point(device: Device, folder: Path) -> Point:
    point = point_of(device, folder)
    await point.start(open_point=False)
    return point


def sales(point: Point) -> list[dict[str, Any]]:
    return [loads(event.body.encode()) for event in point.outbox.pending(10)]


def sales_of(point: Point, order_no: str) -> list[dict[str, Any]]:
    return [one for one in sales(point) if one.get("o") == order_no]


# -- an older transaction that will not clear ------------------------------------------------------------------------


@pytest.mark.feature("003-D3")
async def test_nothing_is_released_while_the_device_keeps_an_older_transaction(tmp_path: Path) -> None:
    device = Device()
    device.buffer, device.clear_code = [OLD], 2
    refused_before = CLEARS_REFUSED.labels(1, FP)._value.get()
    point = await ready_point(device, tmp_path)
    result = await authorise(point)
    assert (result.state, result.code) == (CommandState.REFUSED, "FP_BUSY")
    assert (device.releases, point.outbox.authorisations()) == (0, [])
    assert CLEARS_REFUSED.labels(1, FP)._value.get() > refused_before
    device.clear_code = 0
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED


@pytest.mark.feature("003-D3")
async def test_an_older_transaction_that_comes_again_does_not_end_an_open_order(tmp_path: Path) -> None:
    device = Device()
    device.buffer = [OLD]
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    device.state, device.buffer = IDLE, [OLD, OWN]  # it forgot that the old one had been cleared
    device.total = device.meter(OWN[3])
    await point.settle()
    assert [(one["q"], one["a"]) for one in sales_of(point, "P1")] == [(7, 20_000)]
    assert len(sales(point)) == 2
    assert point.outbox.authorisations() == []


async def test_an_order_waits_while_its_fill_is_hidden_behind_one_that_will_not_clear(tmp_path: Path) -> None:
    device = Device()
    device.buffer = [OLD]
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    device.state, device.buffer, device.clear_code = IDLE, [OLD, OWN], 2
    device.total = device.meter(OWN[3])
    await point.settle()
    assert sales_of(point, "P1") == []
    assert point.outbox.meter(1, FP, 1) == Meter(1_000_000, 0, 1_000_000)
    stopped = await commands.stop(point, stop_command())
    assert stopped.state is CommandState.REFUSED
    device.clear_code = 0
    await point.settle()
    assert [one["a"] for one in sales_of(point, "P1")] == [20_000]


async def test_a_stuck_transaction_without_a_totaliser_is_one_sale_however_often_it_is_read(
    tmp_path: Path,
) -> None:
    device = Device()
    device.tells_total_after, device.buffer, device.clear_code = False, [OLD], 2
    point = await ready_point(device, tmp_path)
    device.total = device.meter(1_050_000)  # somebody else's fuel: the key would be another one now
    assert not await point.collect_unpaid(1)
    assert len(sales(point)) == 1


# -- not known is not zero -------------------------------------------------------------------------------------------


@pytest.mark.feature("003-D3")
@pytest.mark.parametrize(
    ("before", "after"), [(1_000_000, None), (None, 1_027_210), (None, None), (1_000_000, 1_027_210)]
)
async def test_fuel_that_cannot_be_excluded_is_left_to_a_person(
    tmp_path: Path, before: int | None, after: int | None
) -> None:
    device = Device()
    device.total = None if before is None else device.meter(before)
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    counted = SYNTHESISED._value.get()
    point.offline()  # the wire is cut in mid-fill, and the transaction is lost
    device.state, device.total = IDLE, None if after is None else device.meter(after)
    await point.start(open_point=False)
    (sale,) = sales_of(point, "P1")
    assert sale["e"] == "synthesised"
    assert (sale["m"], sale.get("x")) == (27_210 if before and after else 0, after)
    assert SYNTHESISED._value.get() == counted + 1
    assert (await commands.stop(point, stop_command())).code == "FUELLING"


@pytest.mark.feature("003-D3")
async def test_two_equal_readings_give_everything_back(tmp_path: Path) -> None:
    device = Device()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    point.offline()
    device.state = IDLE
    await point.start(open_point=False)
    assert [(one["e"], one["m"]) for one in sales_of(point, "P1")] == [("zero", 0)]


async def test_a_totaliser_first_told_at_the_release_is_enough(tmp_path: Path) -> None:
    device = Device()
    told, device.total = device.total, None
    point = await ready_point(device, tmp_path)
    device.total = told
    assert (await authorise(point)).state is CommandState.ACCEPTED
    assert (await commands.stop(point, stop_command())).state is CommandState.ACCEPTED
    assert [one["e"] for one in sales_of(point, "P1")] == ["zero"]


async def test_a_totaliser_that_is_nonsense_is_not_known_and_keeps_the_point_selling(tmp_path: Path) -> None:
    device = Device()
    device.total = b"\xff\x99\x99"
    point = await ready_point(device, tmp_path)
    assert point.ready
    assert (await authorise(point)).state is CommandState.ACCEPTED
    device.state = IDLE
    await point._settle()
    assert [one["e"] for one in sales_of(point, "P1")] == ["synthesised"]


async def test_a_totaliser_that_no_sale_explains_is_counted(tmp_path: Path) -> None:
    device = Device()
    point = await ready_point(device, tmp_path)
    gaps = TOTALISER_GAPS.labels(1, FP, 1)
    counted = gaps._value.get()
    await point.start(open_point=False)
    assert gaps._value.get() == counted
    device.total = device.meter(1_009_000)
    await point.start(open_point=False)
    assert gaps._value.get() == counted + 1
    assert point.outbox.meter(1, FP, 1) == Meter(1_000_000, 9_000, 1_009_000, NOW_MS)


# -- a full disk -------------------------------------------------------------------------------------------------------


def disk_full(*_: object, **__: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


async def test_a_sale_that_cannot_be_stored_is_not_cleared_and_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()
    point = await ready_point(device, tmp_path)
    device.buffer, counted = [OWN], FAILURES.labels("point")._value.get()
    with monkeypatch.context() as broken:
        broken.setattr(point.outbox, "add_sale", disk_full)
        point._start_collecting(7)
        while not device.closes:
            await asyncio.sleep(0.001)
    assert FAILURES.labels("point")._value.get() == counted + 1
    assert device.buffer == [OWN]
    await point.start(open_point=False)
    assert [one["q"] for one in sales(point)] == [7]
    assert device.buffer == []


async def test_a_release_that_cannot_be_recorded_is_looked_up_at_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()
    point = await ready_point(device, tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(point.outbox, "confirm_authorisation", disk_full)
        with pytest.raises(sqlite3.OperationalError):
            await authorise(point)
    assert device.closes == 1
    assert (await authorise(point)).state is CommandState.UNKNOWN  # asked again before anybody looked
    await point.start(open_point=False)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    assert device.releases == 1


# -- clocks ------------------------------------------------------------------------------------------------------------


class Clock:
    """A wall clock that is wrong by a while, and a steady one."""

    def __init__(self, minutes_wrong: int) -> None:
        self.steady = 1000.0
        self._wrong = timedelta(minutes=minutes_wrong)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.steady - 1000) + self._wrong

    def monotonic(self) -> float:
        return self.steady


def desk_of(point: Point, clock: Clock) -> CommandDesk:
    point.now = clock.now
    return CommandDesk(
        point.outbox,
        authorise=lambda command, lifetime: commands.authorise(point, command, lifetime),
        stop=lambda command: commands.stop(point, command),
        on_result=lambda: None,
        now=clock.now,
        monotonic=clock.monotonic,
    )


@pytest.mark.feature("003-D4")
@pytest.mark.parametrize("minutes_wrong", [-30, 0, 30])
async def test_a_wrong_clock_neither_revives_nor_kills_a_command(tmp_path: Path, minutes_wrong: int) -> None:
    device = Device()
    point = await ready_point(device, tmp_path)
    desk = desk_of(point, Clock(minutes_wrong))
    over = await desk.take(authorise_command("P-OVER", expires_in_s=-20 * 60), 0)
    assert (over.state, device.releases) == (CommandState.EXPIRED, 0)
    assert (await desk.take(authorise_command("P-GOOD"), 60)).state is CommandState.ACCEPTED
    assert device.releases == 1


@pytest.mark.feature("003-D4")
@pytest.mark.parametrize("minutes_wrong", [-30, 0, 30])
async def test_a_command_that_waited_for_its_point_too_long_is_refused(
    tmp_path: Path, minutes_wrong: int
) -> None:
    device, clock = Device(), Clock(minutes_wrong)
    point = await ready_point(device, tmp_path)
    desk = desk_of(point, clock)
    async with point.lock:
        waiting = asyncio.create_task(desk.take(authorise_command(), 10))
        await asyncio.sleep(0.01)
        clock.steady += 10
    assert (await waiting).state is CommandState.EXPIRED
    assert device.releases == 0


@pytest.mark.feature("003-D4")
@pytest.mark.parametrize(
    ("minutes_wrong", "state"),
    [(-30, CommandState.ACCEPTED), (0, CommandState.ACCEPTED), (30, CommandState.EXPIRED)],
)
async def test_without_a_ttl_the_wall_clock_is_the_bound(
    tmp_path: Path, minutes_wrong: int, state: CommandState
) -> None:
    point = await ready_point(Device(), tmp_path)
    desk = desk_of(point, Clock(minutes_wrong))
    assert (await desk.take(authorise_command())).state is state


@pytest.mark.feature("003-D4")
@pytest.mark.parametrize("minutes_wrong", [-30, 30])
async def test_an_intent_that_a_restart_cut_off_is_never_executed(tmp_path: Path, minutes_wrong: int) -> None:
    first = Device()
    point = await ready_point(first, tmp_path)
    first.dead_after_release = True
    assert (await authorise(point)).state is CommandState.UNKNOWN
    (intent,) = point.outbox.authorisations()
    with point.outbox._durable as db:
        db.execute("DELETE FROM result")
    point.outbox.close()
    device = Device()  # the release never reached it
    again = point_of(device, tmp_path)
    again.opened = intent
    desk = desk_of(again, Clock(minutes_wrong))
    waiting = asyncio.create_task(desk.take(authorise_command(), 60))
    await asyncio.sleep(0.01)
    await again.start(open_point=False)
    await waiting
    assert device.releases == 0
    assert [(one["e"], one["m"]) for one in sales_of(again, "P1")] == [("zero", 0)]
    again.outbox.close()
