"""Configuration, clock, fault scripts, fill requests: what is written down and what is refused."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from sandbox.station.clock import Clock, ManualTime
from sandbox.station.config import ConfigError, default_station, dumps, load, parse
from sandbox.station.customer import FillError, parse_fill
from sandbox.station.faults import PARAMETERS, FaultBoard, FaultError, FaultKind, parse_fault


def test_the_default_station_survives_json(tmp_path: Path) -> None:
    station = default_station(15000, data_dir=str(tmp_path))
    file = tmp_path / "station.json"
    file.write_text(dumps(station), encoding="utf-8")
    assert load(file) == station


def test_the_default_station_sells_in_every_unit() -> None:
    station = default_station(15000, data_dir="x")
    nozzles = [nozzle for one in station.dispensers for point in one.points for nozzle in point.nozzles]
    assert {one.unit for one in nozzles} == {"L", "m3", "kg", "kWh"}
    assert {"92#", "95#", "0#"} <= {one.name for one in nozzles}
    ports = [one.tcp_port for one in station.dispensers]
    assert len(set(ports)) == len(ports) == 5
    assert station.control_port not in ports


@pytest.mark.parametrize(
    "change",
    [
        {"rte": 5},
        {"dispensers": []},
        {"dispensers": [{"node": 1, "points": []}]},
        {"dispensers": [{"node": 0, "points": [{"fp": 0x21, "nozzles": []}]}]},
        {"dispensers": [{"node": 1, "points": [{"fp": 0x31, "nozzles": []}]}]},
    ],
)
def test_impossible_stations_are_refused(change: Mapping[str, object]) -> None:
    raw = json.loads(dumps(default_station(15000, data_dir="x")))
    with pytest.raises(ConfigError):
        parse({**raw, **change})


def test_virtual_time_runs_faster_and_does_not_jump() -> None:
    time = ManualTime()
    clock = Clock(real_ms=time, rate=20)
    time.at_ms = 100
    assert clock.virtual_ms() == 2000
    clock.set_rate(1000)
    assert clock.virtual_ms() == 2000
    due = clock.real_when(4500)
    time.at_ms = due
    assert clock.virtual_ms() >= 4500
    time.at_ms = due - 1
    assert clock.virtual_ms() < 4500
    with pytest.raises(ValueError, match=r"1\.\.1000"):
        clock.set_rate(0)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_fault_has_defaults(kind: FaultKind) -> None:
    assert parse_fault({"kind": str(kind), "node": 1}).values == PARAMETERS[kind]


@pytest.mark.parametrize(
    "raw", [{}, {"kind": "fire"}, {"kind": "offline", "ms": "3"}, {"kind": "offline", "m": 3}]
)
def test_senseless_faults_are_refused(raw: Mapping[str, object]) -> None:
    with pytest.raises(FaultError):
        parse_fault(raw)


def test_a_fault_happens_as_often_as_it_says_and_where() -> None:
    board = FaultBoard()
    board.arm(parse_fault({"kind": "overshoot", "count": 2, "fp": 0x22}))
    assert board.take(FaultKind.OVERSHOOT, 0x21) is None
    assert board.take(FaultKind.OVERSHOOT, 0x22) is not None
    assert board.take(FaultKind.OVERSHOOT, 0x22) is not None
    assert board.take(FaultKind.OVERSHOOT, 0x22) is None


@pytest.mark.parametrize(
    "raw",
    [
        {"node": 1, "fp": 0x21, "nozzle": 0x11},
        {"node": 1, "fp": 0x21, "nozzle": 0x11, "quantity_milli": -1},
        {"node": 1, "fp": 0x21, "quantity_milli": 1},
        {"node": 1, "fp": 0x21, "nozzle": 0x11, "quantity_milli": 1, "until_preset": True},
        {"node": 1, "fp": 0x21, "nozzle": 0x11, "until_preset": True, "litres": 3},
    ],
)
def test_senseless_fills_are_refused(raw: Mapping[str, object]) -> None:
    with pytest.raises(FillError):
        parse_fill(raw)
