"""From a dispenser's transaction to a `SaleRecord`: what the meter says is kept, nothing is recomputed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import structlog

from contracts.station import EndReason, SaleRecord
from station_gateway.client.config import NozzleConfig, PointConfig
from station_gateway.client.meters import Meter
from station_gateway.client.outbox import OpenAuthorisation
from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.ids import ErrorCode, TransactionId
from station_gateway.protocols.ifsf.numbers import bcd_to_int, decode_scaled

log = structlog.get_logger(__name__)

CHINA = timezone(timedelta(hours=8))
CLOCKS_AGREE = timedelta(days=1)
"""A dispenser's time tells two sales apart as long as it is so near to ours: a clock without a battery stands still or
begins anew, and gives the same time to a sequence number that comes again. A zone that was set wrong is nearer than that."""
_FIRST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
SALE_IDS = bytes(
    (
        TransactionId.SEQUENCE,
        TransactionId.AMOUNT,
        TransactionId.VOLUME,
        TransactionId.UNIT_PRICE,
        TransactionId.NOZZLE,
        TransactionId.ERROR,
        TransactionId.STATE,
        TransactionId.DATE,
        TransactionId.TIME,
        TransactionId.TOTAL_BEFORE,
        TransactionId.TOTAL_AFTER,
    )
)
_CORE = {TransactionId.NOZZLE, TransactionId.UNIT_PRICE, TransactionId.VOLUME, TransactionId.AMOUNT}
_TOTALS = (TransactionId.TOTAL_BEFORE, TransactionId.TOTAL_AFTER)
_REASONS = {
    ErrorCode.CUSTOMER_STOP: EndReason.CUSTOMER_STOP,
    ErrorCode.LIMIT_REACHED: EndReason.PRESET_REACHED,
    ErrorCode.MAX_FUELLING_TIME: EndReason.STOPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PointKey:
    """Where a sale happened."""

    station_code: str
    node: int
    config: PointConfig

    @property
    def fp(self) -> int:
        """Return the IFSF address of the fuelling point."""
        return self.config.fp

    def nozzle(self, number: int) -> NozzleConfig | None:
        """Return the nozzle with a logical number."""
        return next((one for one in self.config.nozzles if one.nozzle == number), None)


def natural_key(point: PointKey, sequence: int, mark: str) -> str:
    """Return a key that is unique for ever: a wrapped sequence number meets another totaliser."""
    return f"{point.station_code}-{point.node}-{point.fp:02x}-{sequence:04d}-{mark}"


def sale_of_transaction(
    point: PointKey,
    sequence: int,
    values: dict[int, bytes],
    *,
    now: datetime,
    total_after_milli: int | None,
    opened: OpenAuthorisation | None,
    recovered: bool,
    meter: Meter | None = None,
) -> SaleRecord:
    """Return the sale of a TR_DAT answer; `total_after_milli` is used when the record carries no totaliser.

    Without a totaliser and a time near ours in the record the key says how things were when it was read, by a totaliser
    that has counted this sale or by our clock: whoever reads the record again has to know that it is the same one
    (`is_same_transaction`).
    Raises IfsfError when an indispensable field is missing or unreadable.
    """
    try:
        volume, amount = values[TransactionId.VOLUME], values[TransactionId.AMOUNT]
        number, price = values[TransactionId.NOZZLE][-1], values[TransactionId.UNIT_PRICE]
    except KeyError as missing:
        raise IfsfError(f"a transaction without field {missing}") from missing
    nozzle = point.nozzle(number)
    if nozzle is None:
        raise IfsfError(f"a transaction of an unknown nozzle {number}")
    before, after = values.get(TransactionId.TOTAL_BEFORE), values.get(TransactionId.TOTAL_AFTER)
    told, quantity = decode_scaled(after, 3) if after else None, decode_scaled(volume, 3)
    total_after = total_after_milli if told is None else told
    is_early = meter is not None and total_after is not None and meter.is_early(total_after, quantity)
    mark = _mark(values, told, None if is_early else total_after, now)
    return SaleRecord(
        natural_key=natural_key(point, sequence, mark),
        station_code=point.station_code,
        node=point.node,
        fp=point.fp,
        nozzle=number,
        sequence=sequence,
        unit=nozzle.unit,
        quantity_milli=quantity,
        amount_fen=decode_scaled(amount, 2),
        price_fen_per_unit=decode_scaled(price, 2),
        end_reason=EndReason.RECOVERED if recovered else _reason(values),
        recorded_at=now,
        order_no=opened.order_no if opened else None,
        totaliser_before_milli=decode_scaled(before, 3) if before else None,
        totaliser_after_milli=total_after,
        device_time=device_time(values),
        offline=recovered,
    )


def _mark(values: dict[int, bytes], told: int | None, read: int | None, now: datetime) -> str:
    """What tells two sales with the same sequence apart.

    The record's totaliser, else its time, else our reading of the totaliser, else when we first read the record.
    A totaliser of nothing and a clock that is far from ours tell nothing apart; so a sale of a long outage has no time.
    """
    if told:
        return str(told)
    at = device_time(values)
    if at is not None and abs(now - at) < CLOCKS_AGREE:
        return f"t{values[TransactionId.DATE].hex()}{values[TransactionId.TIME].hex()}"
    return str(read) if read else f"r{int(now.timestamp() * 1000)}"


def content_of(values: dict[int, bytes]) -> str:
    """Return what a transaction says, but for its state: two equal texts of a sequence are one transaction."""
    told = sorted((number, value) for number, value in values.items() if number != TransactionId.STATE)
    return ".".join(f"{number:02x}{value.hex()}" for number, value in told)


def is_same_transaction(stored: str, read: str) -> bool:
    """Return whether two contents of one sequence number tell of one transaction.

    They do when nothing that both tell differs, and both tell nozzle, price, quantity and amount: a device may leave
    out a totaliser or its clock when it is asked the second time.
    """
    if stored == read:
        return True
    one, other = _fields(stored), _fields(read)
    both = one.keys() & other.keys()
    return both >= _CORE and all(one[number] == other[number] for number in both)


def _fields(content: str) -> dict[int, str]:
    return {int(part[:2], 16): part[2:] for part in content.split(".") if part}


def readable(values: dict[int, bytes]) -> dict[int, bytes]:
    """Return the fields of a transaction without totalisers and clocks that are nonsense: they are dispensable."""
    damaged = {number for number in _TOTALS if number in values and not _is_number(values[number])}
    if device_time(values) is None:
        damaged |= {TransactionId.DATE, TransactionId.TIME}
    return {number: value for number, value in values.items() if number not in damaged}


def _is_number(raw: bytes) -> bool:
    try:
        decode_scaled(raw, 3)
    except IfsfError:
        log.warning("point.transaction.damaged", raw=raw.hex())
        return False
    return True


def _reason(values: dict[int, bytes]) -> EndReason:
    error = values.get(TransactionId.ERROR, b"\0")[-1]
    return _REASONS.get(error, EndReason.NORMAL)  # type: ignore[call-overload, no-any-return]


def device_time(values: dict[int, bytes]) -> datetime | None:
    """Return the dispenser's own clock at the end of the fill (Beijing time), None when absent, nonsense or before 1970.

    A clock without a battery may begin there, 8 hours before UTC does; no body of a sale tells of such a time.
    """
    date, time = values.get(TransactionId.DATE), values.get(TransactionId.TIME)
    if not date or not time or len(date) != 4 or len(time) != 3:
        return None
    try:
        bcd_to_int(date + time)
        local = datetime.strptime((date + time).hex(), "%Y%m%d%H%M%S").replace(tzinfo=CHINA)
    except ValueError:
        return None
    return None if local < _FIRST_TIME else local.astimezone(UTC)


def zero_sale(point: PointKey, opened: OpenAuthorisation, reason: EndReason, now: datetime) -> SaleRecord:
    """Return the record that ends an order for which nothing was dispensed; its key is the command's."""
    nozzle = point.nozzle(opened.nozzle)
    assert nozzle is not None
    return SaleRecord(
        natural_key=f"{point.station_code}-zero-{opened.command_id}",
        station_code=point.station_code,
        node=point.node,
        fp=point.fp,
        nozzle=opened.nozzle,
        sequence=0,
        unit=nozzle.unit,
        quantity_milli=0,
        amount_fen=0,
        price_fen_per_unit=opened.price_fen_per_unit,
        end_reason=reason,
        recorded_at=now,
        order_no=opened.order_no,
        totaliser_before_milli=opened.total_before_milli,
        totaliser_after_milli=opened.total_before_milli,
    )


def synthesised_sale(
    point: PointKey, opened: OpenAuthorisation, total_after_milli: int | None, now: datetime
) -> SaleRecord:
    """Return a flagged record for an order that no transaction tells of; a person decides.

    The quantity is how far the totaliser moved, 0 when a reading is missing and nobody knows. The amount is price
    times quantity, rounded down: only an estimate, because the meter's amount is lost.
    """
    nozzle = point.nozzle(opened.nozzle)
    assert nozzle is not None
    before, quantity = opened.total_before_milli, 0
    if before is not None and total_after_milli is not None:
        quantity = max(0, total_after_milli - before)
    return SaleRecord(
        natural_key=f"{point.station_code}-synth-{opened.command_id}",
        station_code=point.station_code,
        node=point.node,
        fp=point.fp,
        nozzle=opened.nozzle,
        sequence=0,
        unit=nozzle.unit,
        quantity_milli=quantity,
        amount_fen=quantity * opened.price_fen_per_unit // 1000,
        price_fen_per_unit=opened.price_fen_per_unit,
        end_reason=EndReason.SYNTHESISED,
        recorded_at=now,
        order_no=opened.order_no,
        totaliser_before_milli=opened.total_before_milli,
        totaliser_after_milli=total_after_milli,
        offline=True,
    )
