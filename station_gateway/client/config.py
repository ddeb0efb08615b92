"""What the station client is told: one JSON file, read once into frozen dataclasses.

Times are seconds. The file holds no secret; the OSCORE folder beside it does.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from domain.quantity import Unit
from station_gateway.protocols.ifsf.ids import FIRST_FP, LAST_FP


class ConfigError(ValueError):
    """The file does not describe a station."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NozzleConfig:
    """One nozzle: `nozzle` is the device's logical number (1-8), `number` what people read on it.

    `product` is the number in the dispenser's price database. `postpaid` lets a lifted nozzle start without
    anybody having paid.
    """

    nozzle: int
    number: int
    product: int
    unit: Unit
    postpaid: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PointConfig:
    """A fuelling point; `fp` is its IFSF address, 33..36 (0x21..0x24)."""

    fp: int
    nozzles: tuple[NozzleConfig, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DispenserConfig:
    """One IFSF node. `tcp_port` 0: learnt from its heartbeat; else a heartbeat with another port is ignored.

    `heartbeat_port` is where ours goes; 0: to where the device's heartbeat came from.
    `nozzle_out_bit`: 1 = a set Log_Noz_State bit means lifted (IFSF), 0 = the opposite (some Chinese boards).
    `empty_buffer_acks`: the MS_ACKs by which it says that it has no such transaction (5 data refused, 6 no such
    database); any other refusal means "not now", and nothing is released over what may lie there.
    """

    node: int
    ip: str
    points: tuple[PointConfig, ...]
    tcp_port: int = 0
    heartbeat_port: int = 0
    nozzle_out_bit: int = 1
    empty_buffer_acks: tuple[int, ...] = (5, 6)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """The whole station client.

    `server` is the CoAP address of the gateway shard, `host:port`; `transport` is `udp` or `tcp`.
    `ip` is our address in heartbeats. `postpaid_release` switches free release off for the whole station.
    `metrics_port` serves `/metrics` on the loopback, 0 = off.
    """

    station_code: str
    server: str
    oscore_dir: str
    data_dir: str
    dispensers: tuple[DispenserConfig, ...]
    transport: str = "udp"
    controller_node: int = 1
    ip: str = "127.0.0.1"
    bind_host: str = "0.0.0.0"  # noqa: S104 - the dispensers' network
    heartbeat_port: int = 3486
    tcp_port: int = 0
    heartbeat_interval_s: float = 10.0
    peer_timeout_s: float = 30.0
    answer_timeout_s: float = 5.0
    reconnect_s: float = 1.0
    settle_retry_s: float = 1.0
    open_points: bool = True
    postpaid_release: bool = True
    poll_hold_s: float = 20.0
    ack_timeout_s: float = 1.0
    max_retransmit: int = 4
    backoff_first_s: float = 1.0
    backoff_most_s: float = 60.0
    report_interval_s: float = 1.0
    keep_acked_days: int = 30
    metrics_port: int = 0

    def __post_init__(self) -> None:
        _check(self.transport in ("udp", "tcp"), "transport is udp or tcp")
        _check(bool(self.dispensers), "a station has dispensers")
        _check(self.settle_retry_s > 0, "settle_retry_s is a pause, above 0")
        nodes = [one.node for one in self.dispensers]
        _check(
            len(set(nodes)) == len(nodes) and all(0 < node < 128 for node in nodes),
            "nodes repeat or are wrong",
        )
        for dispenser in self.dispensers:
            fps = [point.fp for point in dispenser.points]
            _check(bool(fps) and len(set(fps)) == len(fps), "fuelling points are missing or repeat")
            _check(all(FIRST_FP <= fp <= LAST_FP for fp in fps), "fp is 33..36")
            _check(dispenser.nozzle_out_bit in (0, 1), "nozzle_out_bit is 0 or 1")
            acks = dispenser.empty_buffer_acks
            _check(
                bool(acks) and all(0 <= ack < 256 for ack in acks), "empty_buffer_acks are MS_ACKs, 0..255"
            )
            for point in dispenser.points:
                numbers = [one.nozzle for one in point.nozzles]
                _check(bool(numbers) and len(set(numbers)) == len(numbers), "nozzles are missing or repeat")
                _check(all(1 <= one <= 8 for one in numbers), "nozzle is 1..8")


def _check(holds: bool, why: str) -> None:
    if not holds:
        raise ConfigError(why)


def load(path: Path) -> ClientConfig:
    """Return the configuration in a JSON file. Raises ConfigError with what is wrong."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"not JSON: {error}") from error
    return parse(raw)


def parse(raw: Mapping[str, Any]) -> ClientConfig:
    """Return the configuration in a JSON object. Raises ConfigError."""
    config: ClientConfig = _build_any(ClientConfig, raw)
    return config


def dump(config: ClientConfig) -> str:
    """Return the configuration as JSON text."""
    return json.dumps(dataclasses.asdict(config), ensure_ascii=False, indent=1)


def _build_any(kind: Any, raw: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, raw)
    if get_origin(kind) is tuple:
        _check(isinstance(raw, list), "a list is expected")
        return tuple(_build_any(get_args(kind)[0], one) for one in raw)
    if kind is Unit:
        _check(raw in list(Unit), f"unit is one of {[str(unit) for unit in Unit]}")
        return Unit(raw)
    _check(isinstance(raw, (int, float) if kind is float else kind), f"{raw!r} is not {kind.__name__}")
    return kind(raw)


def _build_dataclass(kind: Any, raw: Any) -> Any:
    _check(isinstance(raw, dict), f"{kind.__name__} is an object")
    hints = get_type_hints(kind)
    unknown = set(raw) - set(hints)
    _check(not unknown, f"unknown keys of {kind.__name__}: {sorted(unknown)}")
    required = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
    _check(required <= set(raw), f"missing keys of {kind.__name__}: {sorted(required - set(raw))}")
    return kind(**{name: _build_any(hints[name], value) for name, value in raw.items()})
