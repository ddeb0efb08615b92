"""What a simulated station consists of, as frozen dataclasses and as JSON.

Quantities are hundredths of the nozzle's own unit (L, m3, kg or kWh), prices are fen for one unit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

UNITS = ("L", "m3", "kg", "kWh")
FIRST_POINT = 0x21
LAST_POINT = 0x24
FIRST_NOZZLE = 0x11
LAST_NOZZLE = 0x18
MAX_PRICE_FEN = 999_999
LOOPBACK = "127.0.0.1"


class ConfigError(ValueError):
    """A station that could not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NozzleConfig:
    """One nozzle: what it sells and how fast. `product` is the eight-digit product number of the price
    database.
    """

    nozzle: int
    product: int
    name: str
    unit: str
    price_fen_per_unit: int
    flow_centi_per_min: int = 4000

    def __post_init__(self) -> None:
        _check(FIRST_NOZZLE <= self.nozzle <= LAST_NOZZLE, "nozzle must be 0x11..0x18")
        _check(self.unit in UNITS, f"unit must be one of {UNITS}")
        _check(1 <= self.product <= 99_999_999, "product must have one to eight digits")
        _check(0 < self.price_fen_per_unit <= MAX_PRICE_FEN, "price must be 0.01..9999.99")
        _check(self.flow_centi_per_min > 0, "flow must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointConfig:
    """One fuelling point (one side of a dispenser)."""

    fp: int
    nozzles: tuple[NozzleConfig, ...]

    def __post_init__(self) -> None:
        _check(FIRST_POINT <= self.fp <= LAST_POINT, "fp must be 0x21..0x24")
        _check(len(self.nozzles) > 0, "a fuelling point has at least one nozzle")
        numbers = [one.nozzle for one in self.nozzles]
        _check(len(set(numbers)) == len(numbers), "nozzle numbers repeat")


@dataclass(frozen=True, slots=True, kw_only=True)
class DispenserConfig:
    """One IFSF node. Timers are real time. Port 0 lets the system choose; `controller_tcp_port` 0 = learn
    it by heartbeat.
    """

    node: int
    points: tuple[PointConfig, ...]
    ip: str = LOOPBACK
    tcp_port: int = 0
    udp_port: int = 0
    controller_ip: str = LOOPBACK
    controller_udp_port: int = 3486
    controller_tcp_port: int = 0
    heartbeat_s: int = 10
    peer_timeout_s: int = 30
    buffer_size: int = 2
    resend_ms: int = 16_000
    resend_max: int = 3
    running_ms: int = 1000
    auth_timeout_s: int = 120
    no_progress_s: int = 60
    price_apply_ms: int = 300
    nozzle_out_bit: int = 1
    open_at_start: bool = True
    require_recipient: bool = False

    def __post_init__(self) -> None:
        _check(1 <= self.node <= 127, "node must be 1..127")
        _check(1 <= self.buffer_size <= 15, "buffer_size must be 1..15")
        _check(self.nozzle_out_bit in (0, 1), "nozzle_out_bit must be 0 or 1")
        numbers = [one.fp for one in self.points]
        _check(0 < len(numbers) == len(set(numbers)), "fuelling points are missing or repeat")


@dataclass(frozen=True, slots=True, kw_only=True)
class StationConfig:
    """The whole station. `rate` multiplies the speed of flow (1..1000), `instant` makes a fill take no
    time.
    """

    dispensers: tuple[DispenserConfig, ...]
    data_dir: str
    control_host: str = LOOPBACK
    control_port: int = 0
    rate: int = 20
    instant: bool = False

    def __post_init__(self) -> None:
        numbers = [one.node for one in self.dispensers]
        _check(0 < len(numbers) == len(set(numbers)), "dispensers are missing or node numbers repeat")


def _check(holds: bool, why: str) -> None:
    if not holds:
        raise ConfigError(why)


def dumps(config: StationConfig) -> str:
    """The station as JSON text."""
    return json.dumps(asdict(config), ensure_ascii=False, indent=1)


def load(path: Path) -> StationConfig:
    """Read a JSON file. Raises ConfigError on an unknown key or an impossible value."""
    return parse(json.loads(path.read_text(encoding="utf-8")))


def parse(raw: Mapping[str, Any]) -> StationConfig:
    """A parsed JSON object to a station. Raises ConfigError."""
    dispensers = tuple(_dispenser(one) for one in raw.get("dispensers", ()))
    return StationConfig(**_known(StationConfig, raw) | {"dispensers": dispensers})


def _dispenser(raw: Mapping[str, Any]) -> DispenserConfig:
    points = tuple(_point(one) for one in raw.get("points", ()))
    return DispenserConfig(**_known(DispenserConfig, raw) | {"points": points})


def _point(raw: Mapping[str, Any]) -> PointConfig:
    nozzles = tuple(NozzleConfig(**_known(NozzleConfig, one)) for one in raw.get("nozzles", ()))
    return PointConfig(fp=raw.get("fp", 0), nozzles=nozzles)


def _known(kind: type[Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    unknown = set(raw) - {field.name for field in fields(kind)}
    if unknown:
        raise ConfigError(f"unknown keys of {kind.__name__}: {sorted(unknown)}")
    return dict(raw)


PETROL_92 = NozzleConfig(nozzle=0x11, product=92, name="92#", unit="L", price_fen_per_unit=735)
PETROL_95 = NozzleConfig(nozzle=0x12, product=95, name="95#", unit="L", price_fen_per_unit=785)
DIESEL_0 = NozzleConfig(
    nozzle=0x11, product=10, name="0#", unit="L", price_fen_per_unit=705, flow_centi_per_min=8000
)
CNG = NozzleConfig(
    nozzle=0x11, product=201, name="CNG", unit="m3", price_fen_per_unit=498, flow_centi_per_min=2000
)
LNG = NozzleConfig(
    nozzle=0x11, product=202, name="LNG", unit="kg", price_fen_per_unit=620, flow_centi_per_min=6000
)
CHARGE = NozzleConfig(
    nozzle=0x11, product=301, name="EV", unit="kWh", price_fen_per_unit=150, flow_centi_per_min=800
)


def default_station(
    base_port: int,
    *,
    data_dir: str,
    controller_udp_port: int | None = None,
    rate: int = 20,
    instant: bool = False,
    heartbeat_s: int = 10,
) -> StationConfig:
    """Five dispensers on loopback: petrol, diesel, CNG (m3), LNG (kg) and a charger (kWh).

    Ports: control `base_port`; dispenser n listens on TCP and UDP `base_port + 10 + n`; heartbeats go to the
    controller's UDP port, by default `base_port + 1`. With `base_port` 0 the system chooses every port of the
    simulator.
    """
    two_sides = (FIRST_POINT, FIRST_POINT + 1)
    layout: tuple[tuple[tuple[int, ...], tuple[NozzleConfig, ...]], ...] = (
        (two_sides, (PETROL_92, PETROL_95)),
        (two_sides, (DIESEL_0,)),
        ((FIRST_POINT,), (CNG,)),
        ((FIRST_POINT,), (LNG,)),
        ((FIRST_POINT,), (CHARGE,)),
    )
    peer = controller_udp_port if controller_udp_port is not None else base_port + 1
    dispensers = tuple(
        DispenserConfig(
            node=node,
            points=tuple(PointConfig(fp=fp, nozzles=nozzles) for fp in fps),
            tcp_port=base_port and base_port + 10 + node,
            udp_port=base_port and base_port + 10 + node,
            controller_udp_port=peer,
            heartbeat_s=heartbeat_s,
        )
        for node, (fps, nozzles) in enumerate(layout, start=1)
    )
    return StationConfig(
        dispensers=dispensers, data_dir=data_dir, control_port=base_port, rate=rate, instant=instant
    )
