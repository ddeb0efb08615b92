"""A clear that takes effect late, or never: one sale, no claim of an empty buffer, and no flood of reads."""

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from contracts.station import CommandState
from station_gateway.client import buffer
from station_gateway.client.buffer import BUSY_TRIES, RECOVERY_LIMIT
from station_gateway.client.looking import LONGEST_PAUSE_S
from station_gateway.client.point import Point
from station_gateway.protocols.ifsf.messages import Message
from tests.unit.station_gateway.hostile_device import FP, NOW
from tests.unit.station_gateway.lagging_device import BUFFER, Board, quiet, until
from tests.unit.station_gateway.test_one_fuel_one_sale import NEXT, bare, fills, told
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point
from tests.unit.station_gateway.test_unreadable_buffers import payable, until_told


class ClearsLate(Board):
    """Acknowledges a clear and shows the transaction for `keep` reads more."""

    keep = 0
    clears = 0

    def __init__(self) -> None:
        super().__init__()
        self._cleared: list[bytes] = []

    def _clear(self, database: bytes) -> Message:
        self.clears += 1
        self._cleared.append(database)
        return self._ack()

    async def read(self, database: bytes, ids: bytes) -> Message:
        """Answer; do what was acknowledged once nothing more is kept."""
        if len(database) == 4 and self._cleared:
            if not self.keep:
                cleared, self._cleared = self._cleared, []
                for one in cleared:
                    super()._clear(one)
            self.keep = max(0, self.keep - 1)
        return await super().read(database, ids)


async def late_point(device: ClearsLate, folder: Path) -> Point:
    """Return a point whose clock goes on with every look at it."""
    point = await ready_point(device, folder)
    await quiet(point)
    looks = [0]

    def now() -> datetime:
        looks[0] += 1
        return NOW + timedelta(seconds=looks[0])

    point.now = now
    return point


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("keep", [1, 2, 6])
@pytest.mark.parametrize("tells_total", [False, True])
async def test_a_clear_that_takes_effect_late_is_one_sale(
    tmp_path: Path, tells_total: bool, keep: int
) -> None:
    device = bare(ClearsLate(), tells_total=tells_total)
    device.keep = keep
    point = await late_point(device, tmp_path)
    before = device.total
    fills(device, OWN)
    if tells_total:
        after, device.total = (
            device.total,
            before,
        )  # the meter lags by a reading: the key would be another one
        device.after(2, lambda: setattr(device, "total", after))
    point.heard(payable(7))
    await until(lambda: told(point))
    await point.collect_unpaid(1)
    await until(lambda: not device.buffer)
    await quiet(point)
    assert told(point) == [(7, None)]
    assert point.outbox.uncleared_of(1, FP) == []


@pytest.mark.feature("003-D2")
async def test_a_buffer_is_not_empty_while_a_cleared_transaction_is_shown(tmp_path: Path) -> None:
    device = bare(ClearsLate())
    device.keep = 1000
    point = await late_point(device, tmp_path)
    fills(device, OWN)
    refused = await authorise(point)
    assert (refused.code, device.releases, point._buffer.is_empty) == ("FP_BUSY", 0, False)
    assert device.reads(BUFFER) <= BUSY_TRIES + 5, "no flood of reads"
    assert not await point._buffer.empty(recovered=False)
    assert not point._buffer.is_empty
    device.keep = 0
    await until(lambda: point._buffer.is_empty)
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    fills(device, OWN)  # the number has wrapped, the figures are equal
    await point._settle()
    assert told(point) == [(7, None), (7, "P2")]


@pytest.mark.feature("003-D2")
async def test_another_transaction_of_a_cleared_number_is_cleared_at_once(tmp_path: Path) -> None:
    device = bare(ClearsLate())
    point = await late_point(device, tmp_path)
    fills(device, OWN)
    point.heard(payable(7))
    await until(lambda: device.clears)
    await quiet(point)
    device.buffer = [(7, 5_000, 680, 0)]
    device._cleared = []
    assert await point._buffer.empty(recovered=False)
    assert (told(point), device.clears) == ([(7, None), (7, None)], 2)


@pytest.mark.feature("003-D2")
async def test_a_cleared_transaction_that_is_announced_again_is_looked_at_until_it_is_gone(
    tmp_path: Path,
) -> None:
    device = bare(ClearsLate())
    device.keep = 3
    point = await late_point(device, tmp_path)
    fills(device, OWN)
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    point.heard(payable(7))
    await until(lambda: not device.buffer)
    await until_told(point, [(7, None)])
    assert point.outbox.uncleared_of(1, FP) == []


@pytest.mark.feature("003-D2")
async def test_an_equal_sale_long_after_a_clear_is_another_sale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device with one number and equal amounts; nobody has read an empty buffer between the two."""
    monkeypatch.setattr(buffer, "LATE_CLEAR_S", 0.0)
    device = bare(Board())
    point = await ready_point(device, tmp_path)
    await quiet(point)
    fills(device, OWN)
    point.heard(payable(7))
    await until_told(point, [(7, None)])
    point.now = lambda: NOW + timedelta(minutes=5)
    fills(device, OWN)
    point.heard(payable(7))
    await until_told(point, [(7, None), (7, None)])


@pytest.mark.feature("003-D2")
async def test_a_transaction_that_is_shown_for_ever_stays_one_sale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device acknowledges every clear and does none: it is not another sale each minute."""
    elapsed_s = [0.0]
    monkeypatch.setattr(buffer, "time", SimpleNamespace(monotonic=lambda: elapsed_s[0]))
    device = bare(ClearsLate())
    device.keep = 1000
    point = await late_point(device, tmp_path)
    fills(device, OWN)
    for _ in range(4):
        assert not await point.collect_unpaid(1)
        elapsed_s[0] += LONGEST_PAUSE_S
    assert told(point) == [(7, None)]
    device.keep = 0
    await until(lambda: point._buffer.is_empty)
    fills(device, OWN)
    assert await point.collect_unpaid(1)
    assert told(point) == [(7, None), (7, None)]


@pytest.mark.feature("003-D2")
async def test_a_device_that_never_stops_telling_does_not_hold_its_point_for_ever(tmp_path: Path) -> None:
    class Endless(Board):
        clears = 0

        def _clear(self, database: bytes) -> Message:
            self.clears += 1
            self.buffer = (
                [(self.clears + 10, *NEXT[1:3], 2_000_000 + self.clears)] if self.clears < 200 else []
            )
            return self._ack()

    device = Endless()
    point = await ready_point(device, tmp_path)
    await quiet(point)
    device.buffer = [OWN]
    assert not await point._buffer.empty(recovered=False)
    assert device.clears <= RECOVERY_LIMIT
    assert not point._buffer.is_empty
