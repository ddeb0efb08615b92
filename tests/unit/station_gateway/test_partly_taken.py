"""A release that was taken without its limit: it is withdrawn, and nobody takes it for what was paid."""

from pathlib import Path

import pytest

from contracts.station import CommandResult, CommandState
from station_gateway.client import authorise as commands
from station_gateway.client import releases
from station_gateway.client.link import LinkError
from station_gateway.client.point import Point
from station_gateway.client.releases import PARTLY_TAKEN
from station_gateway.protocols.ifsf.ids import FpId
from station_gateway.protocols.ifsf.messages import Message
from tests.unit.station_gateway.hostile_device import AUTHORISED, IDLE
from tests.unit.station_gateway.lagging_device import (
    Board,
    again,
    becomes,
    endings,
    lifted,
    postpaid_point,
    quiet,
    until,
)
from tests.unit.station_gateway.test_one_fuel_one_sale import fills
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, stop_command
from tests.unit.station_gateway.test_unreadable_buffers import CALLING, FUELLING, state, until_told

NO_PRESET = ((FpId.AMOUNT_PRESET, 2), (FpId.NOZZLE_MASK, 0), (FpId.RELEASE_CONTROLLER, 0), (FpId.RELEASE, 0))


class TakesPart(Board):
    """Acknowledges a release in part; withdraws it when it is told to, unless `ignores` says not yet."""

    code = 5
    refusals: tuple[tuple[int, int], ...] = NO_PRESET
    ignores = 0
    wire_breaks = False

    async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
        """Take the release and refuse something of it."""
        ids = [number for number, _ in items]
        if FpId.TERMINATE in ids:
            self.written.append(FpId.TERMINATE)
            if self.wire_breaks:
                raise LinkError("no answer")
            if self.ignores:
                self.ignores -= 1
                return self._ack(5, ((FpId.TERMINATE, 3),))
            self.state = IDLE
            return self._ack()
        ack = await super().write(database, *items)
        return self._ack(self.code, self.refusals) if FpId.RELEASE in ids else ack

    @property
    def withdrawals(self) -> int:
        """How often it was told to withdraw."""
        return self.written.count(FpId.TERMINATE)


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "RELEASE_GRACE_S", 0.05)


def result_of(point: Point) -> CommandResult:
    result = point.outbox.result_of("auth-P1")
    assert result is not None
    return result


@pytest.mark.feature("003-D2")
async def test_a_release_without_its_limit_is_withdrawn_and_ends_as_zero(tmp_path: Path) -> None:
    device = TakesPart()
    point = await ready_point(device, tmp_path)
    result = await authorise(point, seen=False)
    assert (result.state, result.code) == (CommandState.UNKNOWN, PARTLY_TAKEN)
    assert (device.state, device.withdrawals) == (IDLE, 1)
    assert (await authorise(point, seen=False)).code == PARTLY_TAKEN, (
        "a command that comes again is not executed"
    )
    await until_told(point, [(0, "P1")])
    assert endings(point) == [("zero", 0, "P1")]
    assert device.releases == 1


@pytest.mark.feature("003-D2")
async def test_a_withdrawal_that_is_not_heard_is_repeated_and_never_taken_for_a_release(
    tmp_path: Path,
) -> None:
    device = TakesPart()
    device.ignores = 4
    point = await ready_point(device, tmp_path)
    await authorise(point, seen=False)
    point.heard(state(AUTHORISED))
    await until(lambda: not device.ignores)
    assert (result_of(point).code, device.state) == (PARTLY_TAKEN, AUTHORISED)
    assert point.opened is not None
    assert not point.opened.confirmed
    await until_told(point, [(0, "P1")])
    assert (device.withdrawals, endings(point)) == (6, [("zero", 0, "P1")]), "once more at rest"


@pytest.mark.feature("003-D2")
async def test_a_restarted_client_withdraws_what_was_partly_taken(tmp_path: Path) -> None:
    device = TakesPart()
    device.wire_breaks = True
    point = await ready_point(device, tmp_path)
    result = await authorise(point, seen=False)
    assert (result.code, device.closes, device.state) == (PARTLY_TAKEN, 1, AUTHORISED)
    point.offline()
    await quiet(point)
    device.wire_breaks, device.ignores = False, 2
    point = again(device, tmp_path, point)
    await point.start(open_point=False)
    assert point.opened is not None
    assert (result_of(point).code, point.opened.confirmed) == (PARTLY_TAKEN, False)
    await until_told(point, [(0, "P1")])
    assert (device.state, endings(point)) == (IDLE, [("zero", 0, "P1")])


@pytest.mark.feature("003-D2")
async def test_fuel_of_a_partly_taken_release_is_its_orders(tmp_path: Path) -> None:
    device = TakesPart()
    device.ignores = 1000
    point = await ready_point(device, tmp_path)
    await authorise(point, seen=False)
    becomes(device, point, FUELLING)
    before = device.withdrawals
    await until(lambda: device.withdrawals > before)
    assert result_of(point).code == PARTLY_TAKEN
    fills(device, OWN)
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])


@pytest.mark.feature("003-D2")
async def test_a_partly_taken_release_can_be_stopped(tmp_path: Path) -> None:
    device = TakesPart()
    device.ignores = 1
    point = await ready_point(device, tmp_path)
    await authorise(point, seen=False)
    stopped = await commands.stop(point, stop_command())
    assert (stopped.state, device.state) == (CommandState.ACCEPTED, IDLE)
    assert endings(point) == [("zero", 0, "P1")]


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize(
    ("code", "refusals"), [(5, (*NO_PRESET[:-1], (FpId.RELEASE, 3))), (9, ()), (6, NO_PRESET)]
)
async def test_a_release_that_was_refused_itself_leaves_nothing_open(
    tmp_path: Path, code: int, refusals: tuple[tuple[int, int], ...]
) -> None:
    device = TakesPart()
    device.code, device.refusals = code, refusals
    point = await ready_point(device, tmp_path)
    result = await authorise(point, seen=False)
    assert (result.state, result.code) == (CommandState.REFUSED, "DEVICE_REFUSED")
    assert (point.opened, point.outbox.authorisations(), device.withdrawals) == (None, [], 0)
    device.code, device.refusals, device.state = 0, (), IDLE
    assert (await authorise(point, "P2", seen=False)).state is CommandState.ACCEPTED


@pytest.mark.feature("003-D2")
async def test_a_post_paid_release_of_which_another_part_was_refused_is_one(tmp_path: Path) -> None:
    """There is no limit to lose; withdrawn and asked for again, the pump would open and shut while the nozzle is out."""
    device = TakesPart()
    point = await postpaid_point(device, tmp_path)
    device.reported, device.nozzles_out = CALLING, 1
    point.heard(lifted())
    await until(lambda: device.releases)
    device.reported, device.nozzles_out = None, 0
    point.heard(state(FUELLING))
    fills(device, OWN)
    point.heard(state(IDLE))
    await until_told(point, [(7, None)])
    assert (device.releases, device.withdrawals) == (1, 0)
