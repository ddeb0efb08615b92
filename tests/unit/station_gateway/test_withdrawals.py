"""A release is withdrawn before its order ends without fuel, and when it stands without its limit."""

import dataclasses
import json
from pathlib import Path

import pytest

from contracts.station import CommandState
from station_gateway.client import main as client_main
from station_gateway.client.config import ConfigError, parse
from station_gateway.client.ifsf_driver import IfsfDriver
from station_gateway.client.outbox import Outbox
from station_gateway.protocols.ifsf.ids import ERROR_DB, ErrorCode, FpId
from station_gateway.protocols.ifsf.messages import Message, MessageType
from station_gateway.protocols.ifsf.numbers import encode_amount
from tests.unit.station_gateway.hostile_device import AUTHORISED, CONTROLLER, DEVICE, FP, IDLE
from tests.unit.station_gateway.lagging_device import Board, again, becomes, endings, quiet, running
from tests.unit.station_gateway.test_config_and_provision import CONFIG
from tests.unit.station_gateway.test_one_fuel_one_sale import fills
from tests.unit.station_gateway.test_outbox import OPENED
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, said, state, until_told

SUSPENDED_FUELLING = 9


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("reconnected", [False, True])
async def test_a_state_that_is_told_wrongly_after_a_reconnect(
    tmp_path: Path, reconnected: bool, restarted: bool
) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    device.reported = IDLE
    if reconnected:
        point.offline()
    if restarted:
        point = again(device, tmp_path, point)
    await point.start(open_point=False)
    await until_told(point, [(0, "P1")])
    assert (FpId.TERMINATE in device.written, device.state) == (True, IDLE)


@pytest.mark.feature("003-D2")
async def test_figures_of_the_fill_before_are_no_fill(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    point.heard(running(19_000, 2_585))  # still on the display
    device.reported = IDLE
    point.heard(state(IDLE))
    await until_told(point, [(0, "P1")])
    assert (FpId.TERMINATE in device.written, device.state) == (True, IDLE)


@pytest.mark.feature("003-D2")
async def test_a_suspended_fill_has_not_ended(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    device.total = device.meter(1_010_000)
    becomes(device, point, SUSPENDED_FUELLING)
    await quiet(point)
    assert sales(point) == []
    becomes(device, point, FUELLING)
    fills(device, OWN)
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])
    assert FpId.TERMINATE not in device.written


@pytest.mark.feature("003-D2")
async def test_a_timeout_before_the_order_is_not_its_own(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    point.heard(said(bytes((FP, ERROR_DB, ErrorCode.AUTHORISE_TIMEOUT))))
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, IDLE)
    await until_told(point, [(0, "P1")])
    assert endings(point) == [("zero", 0, "P1")]


class TellsItsLimit(Board):
    """Takes a release with the limit `keeps`, does not answer, and tells what limit it knows."""

    def __init__(self, keeps: bytes) -> None:
        super().__init__()
        self.keeps = keeps
        self.dead_after_release = True

    async def read(self, database: bytes, ids: bytes) -> Message:
        """Answer, also for the limit."""
        if FpId.AMOUNT_PRESET not in ids:
            return await super().read(database, ids)
        items = ((FpId.AMOUNT_PRESET, self.keeps),)
        return Message(
            recipient=CONTROLLER, origin=DEVICE, type=MessageType.ANSWER, database=database, items=items
        )


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("keeps", "stays_open"), [(encode_amount(0), False), (encode_amount(20_000), True), (b"", True)]
)
async def test_a_release_whose_answer_is_lost_stands_only_with_its_limit(
    tmp_path: Path, keeps: bytes, stays_open: bool, restarted: bool
) -> None:
    device = TellsItsLimit(keeps)
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).code == "NO_ANSWER"
    point.offline()
    if restarted:
        point = again(device, tmp_path, point)
    await point.start(open_point=False)
    if not stays_open:
        await until_told(point, [(0, "P1")])
    await quiet(point)
    assert (device.state == AUTHORISED, sales(point) == []) == (stays_open, stays_open)


@pytest.mark.parametrize("place", [{"nozzle": 2}, {"fp": 0x22}, {"node": 2}])
def test_an_order_at_a_nozzle_that_is_configured_no_more_is_named(
    tmp_path: Path, place: dict[str, int]
) -> None:
    opened = dataclasses.replace(OPENED, **place)  # type: ignore[arg-type]
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    outbox.open_authorisation(opened)
    with pytest.raises(ConfigError, match="order P1 is still open at"):
        IfsfDriver(parse(CONFIG), outbox, on_change=lambda: None, on_result=lambda: None)
    outbox.close()


def test_the_client_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def refuses(_config: object) -> None:
        raise ConfigError("order P1 is still open at dispenser 2")

    monkeypatch.setattr(client_main, "run", refuses)
    monkeypatch.setattr(client_main, "_configure_log", lambda: None)
    (tmp_path / "c.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    assert client_main.main(["--config", str(tmp_path / "c.json")]) == 2
    assert "order P1 is still open" in capfd.readouterr().out


@pytest.mark.feature("003-D2")
async def test_the_next_order_is_withdrawn_though_the_one_before_flowed(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    becomes(device, point, FUELLING)
    fills(device, OWN)
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])
    await quiet(point)
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED
    device.reported = IDLE
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1"), (0, "P2")])
    assert (FpId.TERMINATE in device.written, device.state) == (True, IDLE)


@pytest.mark.feature("003-D2")
async def test_a_fill_that_runs_is_not_shut_for_its_limit(tmp_path: Path) -> None:
    device = TellsItsLimit(encode_amount(0))
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).code == "NO_ANSWER"
    point.offline()
    device.state = FUELLING
    await point.start(open_point=False)
    assert (FpId.TERMINATE in device.written, device.state) == (False, FUELLING)


@pytest.mark.feature("003-D2")
async def test_a_limit_that_is_nonsense_keeps_no_point_away(tmp_path: Path) -> None:
    device = TellsItsLimit(b"\xff\x99\x99")
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).code == "NO_ANSWER"
    point.offline()
    await point.start(open_point=False)
    assert (point.ready, device.state) == (True, AUTHORISED)
