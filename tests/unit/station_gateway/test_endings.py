"""How an order ends that has no transaction yet: never as zero while fuel may lie somewhere, and never twice."""

from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client import authorise as commands
from station_gateway.client import releases
from station_gateway.client.point import Point
from station_gateway.protocols.ifsf.ids import ERROR_DB, ErrorCode, FpId, TransactionId, transaction_db
from station_gateway.protocols.ifsf.messages import Message
from tests.unit.station_gateway.hostile_device import FP, IDLE
from tests.unit.station_gateway.lagging_device import (
    BUFFER,
    INOPERATIVE,
    METER,
    STATE,
    Board,
    becomes,
    endings,
    quiet,
    running,
    until,
)
from tests.unit.station_gateway.test_one_fuel_one_sale import NEXT, fills, told
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales, stop_command
from tests.unit.station_gateway.test_unreadable_buffers import (
    CALLING,
    FUELLING,
    payable,
    said,
    state,
    until_told,
)


async def fuelling(device: Board, folder: Path, order_no: str = "P1") -> Point:
    """Return a point at which an order is fuelling."""
    point = await ready_point(device, folder)
    assert (await authorise(point, order_no)).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    return point


@pytest.mark.feature("003-D2")
async def test_fuel_that_was_seen_flowing_has_time_to_reach_meter_and_buffer(tmp_path: Path) -> None:
    device = Board()
    point = await fuelling(device, tmp_path)
    device.after(METER, lambda: fills(device, OWN))
    becomes(device, point, IDLE)
    await until(lambda: sales(point))
    await quiet(point)
    assert endings(point) == [("normal", 7, "P1")]


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize(
    "announcement",
    [payable(7), said(transaction_db(FP, 7), (TransactionId.AMOUNT, b"\6\0\0\0\0\0"))],
    ids=["payable", "without a state"],
)
async def test_no_zero_is_told_after_a_transaction_was_announced(
    tmp_path: Path, announcement: Message
) -> None:
    device = Board()
    point = await fuelling(device, tmp_path)

    def announces() -> None:
        fills(device, OWN)
        point.heard(announcement)

    def when_state_is_read() -> None:
        if device.reads(METER) == read_at_release:
            device.after(STATE, when_state_is_read)  # not yet: the totaliser is read before the last state
        else:
            announces()

    read_at_release = device.reads(METER)
    device.after(STATE, when_state_is_read)
    becomes(device, point, IDLE)
    await until(lambda: sales(point))
    await quiet(point)
    assert endings(point) == [("normal", 7, "P1")]


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_board_that_lost_its_dispenser_has_ended_nothing(tmp_path: Path, goes_on: bool) -> None:
    device = Board()
    point = await fuelling(device, tmp_path)
    becomes(device, point, INOPERATIVE)
    read = device.reads(STATE)
    await until(lambda: device.reads(STATE) >= read + 4)
    assert endings(point) == []
    assert point.opened is not None
    if goes_on:
        becomes(device, point, FUELLING)
        fills(device, OWN)
        point.heard(payable(7))
    becomes(device, point, IDLE)
    await until(lambda: sales(point))
    await quiet(point)
    assert endings(point) == [("normal", 7, "P1") if goes_on else ("zero", 0, "P1")]


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize(
    ("before", "after", "figures", "ending"),
    [
        (FUELLING, FUELLING, (19_000, 2_585), "synthesised"),
        (FUELLING, FUELLING, (0, 1), "synthesised"),
        (FUELLING, FUELLING, (0, 0), "zero"),
        (5, 5, (19_000, 2_585), "zero"),  # the figures of the fill before, still on the display
    ],
)
async def test_a_running_amount_is_fuel_though_the_meter_has_not_moved(
    tmp_path: Path, before: int, after: int, figures: tuple[int, int], ending: str
) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, before)
    point.heard(running(*figures))
    becomes(device, point, after)
    becomes(device, point, IDLE)
    await until(lambda: sales(point))
    await quiet(point)
    assert endings(point) == [(ending, 0, "P1")]


@pytest.mark.feature("003-D2")
async def test_the_running_amount_of_one_order_is_not_the_next_orders_fuel(tmp_path: Path) -> None:
    device = Board()
    point = await fuelling(device, tmp_path)
    point.heard(running(19_000, 2_585))
    fills(device, OWN)
    becomes(device, point, IDLE)
    await until_told(point, [(7, "P1")])
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    becomes(device, point, IDLE)
    await until_told(point, [(7, "P1"), (0, "P2")])
    assert endings(point)[1:] == [("zero", 0, "P2")]


@pytest.mark.feature("003-D2")
async def test_a_nozzle_lifted_again_while_the_end_is_looked_into_has_not_ended(tmp_path: Path) -> None:
    """The board's message comes late: only the last look at the state tells."""
    device = Board()
    point = await fuelling(device, tmp_path)

    def goes_on() -> None:
        device.state = FUELLING

    read = device.reads(METER)
    device.after(METER, goes_on)
    becomes(device, point, IDLE)
    await until(lambda: device.reads(METER) > read)
    await quiet(point)
    assert endings(point) == []
    fills(device, OWN)
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("told_state", [IDLE, CALLING])
async def test_a_release_that_never_began_is_withdrawn_before_its_order_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told_state: int
) -> None:
    monkeypatch.setattr(releases, "RELEASE_GRACE_S", 0.05)

    class Withdraws(Board):
        told_before: bool | None = None

        async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
            """Note whether the order had ended when its release was withdrawn."""
            if FpId.TERMINATE in [number for number, _ in items] and self.told_before is None:
                self.told_before = bool(told(point))
            return await super().write(database, *items)

    device = Withdraws()
    device.reported = told_state
    point = await ready_point(device, tmp_path)
    assert (await authorise(point, seen=False)).state is CommandState.ACCEPTED
    await until_told(point, [(0, "P1")])
    assert device.told_before is False
    assert device.state == IDLE, "a slow board cannot begin any more"


@pytest.mark.feature("003-D2")
async def test_a_release_that_was_at_work_is_not_withdrawn_at_its_end(tmp_path: Path) -> None:
    device = Board()
    point = await fuelling(device, tmp_path)
    becomes(device, point, IDLE)
    await until_told(point, [(0, "P1")])
    assert FpId.TERMINATE not in device.written


@pytest.mark.feature("003-D2")
async def test_the_second_release_of_a_point_has_its_own_grace(tmp_path: Path) -> None:
    device = Board()
    point = await fuelling(device, tmp_path)
    fills(device, OWN)
    becomes(device, point, IDLE)
    await until_told(point, [(7, "P1")])
    assert (await authorise(point, "P2", seen=False)).state is CommandState.ACCEPTED
    device.reported = CALLING
    point.heard(state(CALLING))
    read = device.reads(STATE)
    await until(lambda: device.reads(STATE) >= read + 3)
    assert told(point) == [(7, "P1")]
    device.reported = None
    fills(device, NEXT)
    point.heard(state(FUELLING))
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1"), (8, "P2")])


class Slow(Board):
    """Refuses the first withdrawal."""

    refused = 0

    async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
        """Refuse the first withdrawal."""
        if FpId.TERMINATE in [number for number, _ in items] and not self.refused:
            self.refused += 1
            return self._ack(5, ((FpId.TERMINATE, 3),))
        return await super().write(database, *items)


@pytest.mark.feature("003-D2")
async def test_a_stop_in_the_lag_is_not_the_boards_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is released as far as the board tells, so it need not take a withdrawal; it may yet begin."""

    device = Slow()
    device.reported = CALLING
    point = await ready_point(device, tmp_path)
    assert (await authorise(point, seen=False)).state is CommandState.ACCEPTED
    stopped = await commands.stop(point, stop_command())
    assert (stopped.state, stopped.code, device.refused) == (CommandState.REFUSED, "FP_BUSY", 1)
    monkeypatch.setattr(releases, "RELEASE_GRACE_S", 0.0)
    assert (await commands.stop(point, stop_command())).state is CommandState.ACCEPTED
    assert endings(point) == [("zero", 0, "P1")]


@pytest.mark.feature("003-D2")
async def test_a_stop_before_fuel_flowed_waits_for_no_transaction(tmp_path: Path) -> None:
    """The order's run waits 8 s for a stop; a transaction is waited for only when there may be one."""
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    read = device.reads(BUFFER)
    assert (await commands.stop(point, stop_command())).state is CommandState.ACCEPTED
    assert (device.reads(BUFFER), endings(point)) == (read + 1, [("zero", 0, "P1")])


@pytest.mark.feature("003-D2")
async def test_a_withdrawal_that_the_board_refuses_refuses_the_stop(tmp_path: Path) -> None:
    device = Slow()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    stopped = await commands.stop(point, stop_command())
    assert (stopped.state, stopped.code) == (CommandState.REFUSED, "DEVICE_REFUSED")
    assert endings(point) == []


@pytest.mark.feature("003-D2")
async def test_the_timeout_of_one_order_is_not_the_next_orders(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    point.heard(said(bytes((FP, ERROR_DB, ErrorCode.AUTHORISE_TIMEOUT))))
    becomes(device, point, IDLE)
    await until_told(point, [(0, "P1")])
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    becomes(device, point, IDLE)
    await until_told(point, [(0, "P1"), (0, "P2")])
    assert [ending for ending, *_ in endings(point)] == ["authorise_timeout", "zero"]
