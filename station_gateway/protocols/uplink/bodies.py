"""The bodies of the uplink: compact JSON with one-letter keys, times in milliseconds since 1970 UTC.

The station code is never in a body: it comes from the OSCORE context that proved who is speaking.

- POST `e`: `{"e":[sale...], "s":[state...]}`, answered 2.04 once everything is stored.
- POST `c`: `{"b": boot time, "n": waiting events, "r":[result...], "w": ms to hold}`, answered by
  `{"c":[command...]}`. Commands come again until their result has arrived; each delivery says in `ttl_s` how
  many seconds are left, because a station's clock may be wrong.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.station import (
    AuthoriseCommand,
    CommandResult,
    CommandState,
    EndReason,
    PointReport,
    PointState,
    SaleRecord,
    StopCommand,
)
from domain.quantity import Unit

EVENTS_PATH = "e"
COMMANDS_PATH = "c"
MAX_BODY = 1000
"""Bytes; stays below the IP MTU and below one CoAP block."""

Command = AuthoriseCommand | StopCommand
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_AGO_MS = 0
_STATION_SEPARATOR = "/"
MAX_KEY = 95
"""Characters of a station's own sale key; with the station code (32) and the separator it fits its column."""
_MAX_ORDER_NO = 32
_MILLISECOND = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)


class BodyError(ValueError):
    """A body that is not what the other end may send."""


def dumps(value: Any) -> str:
    """Return compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def loads(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body (an empty body is an empty object). Raises BodyError."""
    if not body:
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BodyError("not JSON") from error
    if not isinstance(value, dict):
        raise BodyError("not an object")
    return value


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _moment(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _compact(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def sale_body(sale: SaleRecord) -> str:
    """Return a sale as JSON text, as the outbox keeps it and the uplink sends it."""
    values = {
        "k": sale.natural_key,
        "n": sale.node,
        "f": sale.fp,
        "z": sale.nozzle,
        "q": sale.sequence,
        "u": sale.unit.value,
        "m": sale.quantity_milli,
        "a": sale.amount_fen,
        "p": sale.price_fen_per_unit,
        "e": sale.end_reason.value,
        "t": _ms(sale.recorded_at),
        "o": sale.order_no,
        "y": sale.totaliser_before_milli,
        "x": sale.totaliser_after_milli,
        "d": _ms(sale.device_time) if sale.device_time else None,
        "l": 1 if sale.offline else None,
    }
    return dumps(_compact(values))


def station_key(station_code: str, key: str) -> str:
    """Return the natural key of a sale: the station that OSCORE proved, then the key that it sent.

    Whatever a station sends, it cannot name another station's sale: no station code contains the separator.
    """
    return f"{station_code}{_STATION_SEPARATOR}{key}"


def key_at_station(natural_key: str) -> str:
    """Return the station's own part of a natural key; the inverse of `station_key`."""
    return natural_key.partition(_STATION_SEPARATOR)[2]


def parse_sale(station_code: str, raw: Any) -> SaleRecord:
    """Return the sale in a decoded body, its key bound to the station. Raises BodyError."""
    try:
        device_ms = raw.get("d")
        return SaleRecord(
            natural_key=station_key(station_code, _key(raw["k"])),
            station_code=station_code,
            node=_number(raw["n"]),
            fp=_number(raw["f"]),
            nozzle=_number(raw["z"]),
            sequence=_number(raw["q"]),
            unit=Unit(raw["u"]),
            quantity_milli=whole(raw["m"]),
            amount_fen=whole(raw["a"]),
            price_fen_per_unit=whole(raw["p"]),
            end_reason=EndReason(raw["e"]),
            recorded_at=_moment(whole(raw["t"])),
            order_no=_text(raw["o"], _MAX_ORDER_NO) if "o" in raw else None,
            totaliser_before_milli=whole(raw["y"]) if "y" in raw else None,
            totaliser_after_milli=whole(raw["x"]) if "x" in raw else None,
            device_time=None if device_ms is None else _moment(whole(device_ms)),
            offline=bool(raw.get("l")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BodyError("not a sale") from error


def whole(value: Any) -> int:
    """Return a number that fits a database column. Raises BodyError."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise BodyError("not a whole number")
    return value


def _number(value: Any) -> int:
    """Return a device's address or sequence number: it fits an integer column."""
    if whole(value) >= 1 << 31:
        raise BodyError("not a device's number")
    return int(value)


def _text(value: Any, most: int = 160) -> str:
    """Return a text that a text column takes: neither NUL nor half a character in it."""
    if not isinstance(value, str) or not 0 < len(value) <= most or "\0" in value:
        raise BodyError("not a short text")
    value.encode()
    return value


def _key(value: Any) -> str:
    key = _text(value, MAX_KEY)
    if _STATION_SEPARATOR in key:
        raise BodyError("a station's key names no station")
    return key


def command_body(command: Command) -> dict[str, Any]:
    """Return a command for the station."""
    values = {
        "i": command.command_id,
        "o": command.order_no,
        "n": command.node,
        "f": command.fp,
        "t": _ms(command.expires_at),
    }
    if isinstance(command, AuthoriseCommand):
        values |= {"z": command.nozzle, "a": command.amount_fen, "p": command.price_fen_per_unit}
    return values


def delivery_body(command: Command, now: datetime) -> dict[str, Any]:
    """Return a command as it is handed out at `now`: with the whole seconds that it still has.

    A command whose time is over is handed out only to ask for its verdict: its expiry lies in 1970, so that no
    station opens a pump for it, however slow the station's clock is.
    """
    ttl_s = max(0, (command.expires_at - now) // _SECOND)
    values = command_body(command) | {"ttl_s": ttl_s}
    return values if ttl_s else values | {"t": _LONG_AGO_MS}


def parse_ttl_s(raw: Any) -> int | None:
    """Return the seconds that a delivered command has from now on, None when the server does not say.

    Raises BodyError.
    """
    return whole(raw["ttl_s"]) if "ttl_s" in raw else None


def parse_command(station_code: str, raw: Any) -> Command:
    """Return the command in a decoded body; one with an amount is an authorise. Raises BodyError."""
    try:
        common = {
            "command_id": _text(raw["i"]),
            "order_no": _text(raw["o"]),
            "station_code": station_code,
        }
        node, fp, expires = whole(raw["n"]), whole(raw["f"]), _moment(whole(raw["t"]))
        if "a" not in raw:
            return StopCommand(node=node, fp=fp, expires_at=expires, **common)
        return AuthoriseCommand(
            node=node,
            fp=fp,
            expires_at=expires,
            nozzle=whole(raw["z"]),
            amount_fen=whole(raw["a"]),
            price_fen_per_unit=whole(raw["p"]),
            **common,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BodyError("not a command") from error


def result_body(result: CommandResult) -> str:
    """Return a command's result as JSON text; the detail is cut so that the body stays small."""
    return dumps(
        {
            "i": result.command_id,
            "o": result.order_no,
            "s": result.state.value,
            "c": result.code,
            "d": result.detail[:100],
        }
    )


def parse_result(raw: Any) -> CommandResult:
    """Return the result in a decoded body. Raises BodyError."""
    try:
        return CommandResult(
            command_id=_text(raw["i"]),
            order_no=_text(raw["o"]),
            state=CommandState(raw["s"]),
            code=str(raw.get("c", ""))[:32],
            detail=str(raw.get("d", ""))[:200],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BodyError("not a result") from error


def report_body(report: PointReport) -> str:
    """Return the state of a fuelling point as JSON text."""
    values = {
        "n": report.node,
        "f": report.fp,
        "s": report.state.value,
        "z": report.nozzle,
        "a": report.running_amount_fen,
        "m": report.running_quantity_milli,
    }
    return dumps(_compact(values))


def parse_report(station_code: str, raw: Any) -> PointReport:
    """Return the state in a decoded body. Raises BodyError."""
    try:
        return PointReport(
            station_code=station_code,
            node=whole(raw["n"]),
            fp=whole(raw["f"]),
            state=PointState(raw["s"]),
            nozzle=whole(raw["z"]) if "z" in raw else None,
            running_amount_fen=whole(raw["a"]) if "a" in raw else None,
            running_quantity_milli=whole(raw["m"]) if "m" in raw else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BodyError("not a state") from error


def events_body(sales: Iterable[str], states: Iterable[str]) -> bytes:
    """Return the body of POST `e` from already encoded parts, so that nothing is encoded twice."""
    return f'{{"e":[{",".join(sales)}],"s":[{",".join(states)}]}}'.encode()


def exchange_body(boot: int, depth: int, results: Iterable[str], hold_ms: int) -> bytes:
    """Return the body of POST `c`; `hold_ms` is how long the server may keep the answer back."""
    return f'{{"b":{boot},"n":{depth},"r":[{",".join(results)}],"w":{hold_ms}}}'.encode()


def commands_body(commands: Sequence[Command], now: datetime) -> bytes:
    """Return the answer to POST `c` at `now`; nothing at all when there is no command."""
    return dumps({"c": [delivery_body(one, now) for one in commands]}).encode() if commands else b""
