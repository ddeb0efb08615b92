"""What crosses the station boundary: completed sales up, commands down, command results up."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from domain.quantity import Unit


class EndReason(StrEnum):
    """Why a fill ended."""

    NORMAL = "normal"
    PRESET_REACHED = "preset_reached"
    CUSTOMER_STOP = "customer_stop"
    ZERO = "zero"
    """The nozzle was hung up before any flow."""
    AUTHORISE_TIMEOUT = "authorise_timeout"
    """Nobody lifted the nozzle in time; the dispenser withdrew the release."""
    STOPPED = "stopped"
    RECOVERED = "recovered"
    """Read from the transaction buffer after the dispenser or the link had been away."""
    SYNTHESISED = "synthesised"
    """No transaction, and two equal totaliser readings do not prove that nothing flowed: for a person to review.

    Rebuilt from the totaliser where it moved; quantity 0 where a reading is missing and nobody knows.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleRecord:
    """One finished fill as the dispenser reports it.

    Amounts in fen, quantities and totalisers in thousandths of the unit. `natural_key` is unique for ever:
    station, node, fuelling point, sequence and the totaliser after it (IFSF sequences wrap at 9999). The gateway
    server puts the proven station code and `/` before the key that a station sent.
    `order_no` is set when the fill was authorised for an order. A zero sale (nothing dispensed) is reported too,
    with quantity 0, so that its order ends.
    """

    natural_key: str
    station_code: str
    node: int
    fp: int
    nozzle: int
    sequence: int
    unit: Unit
    quantity_milli: int
    amount_fen: int
    price_fen_per_unit: int
    end_reason: EndReason
    recorded_at: datetime
    order_no: str | None = None
    totaliser_before_milli: int | None = None
    totaliser_after_milli: int | None = None
    device_time: datetime | None = None
    offline: bool = False

    @property
    def may_be_fuel(self) -> bool:
        """Return whether fuel flowed or nobody knows: only a sale of nothing that was seen to be nothing is not."""
        return bool(self.quantity_milli or self.amount_fen) or self.end_reason is EndReason.SYNTHESISED


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoriseCommand:
    """Release one nozzle for one order, up to an amount in fen; refused at the edge after `expires_at`."""

    command_id: str
    order_no: str
    station_code: str
    node: int
    fp: int
    nozzle: int
    amount_fen: int
    price_fen_per_unit: int
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StopCommand:
    """Withdraw the authorisation of an order before fuel flows; refused with `FUELLING` when it already does."""

    command_id: str
    order_no: str
    station_code: str
    node: int
    fp: int
    expires_at: datetime


class CommandState(StrEnum):
    """How a command ended. UNKNOWN is no verdict: keep the hold and wait for the edge's own report."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The edge's answer to a command. Codes: PRICE_MISMATCH, FP_BUSY, FP_CLOSED, FP_OFFLINE, NOZZLE_UNKNOWN, FUELLING, DEVICE_REFUSED,
    NOT_AUTHORISED (a stop for an order without authorisation), EXPIRED, NO_ANSWER, PARTLY_TAKEN (UNKNOWN: released
    without its limit and withdrawn; the order's sale follows)."""

    command_id: str
    order_no: str
    state: CommandState
    code: str = ""
    detail: str = ""


class PointState(StrEnum):
    """Canonical state of a fuelling point: IFSF's nine and offline."""

    OFFLINE = "offline"
    INOPERATIVE = "inoperative"
    CLOSED = "closed"
    IDLE = "idle"
    CALLING = "calling"
    AUTHORISED = "authorised"
    STARTED = "started"
    SUSPENDED_STARTED = "suspended_started"
    FUELLING = "fuelling"
    SUSPENDED_FUELLING = "suspended_fuelling"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointReport:
    """State of one fuelling point, for the live view; `nozzle` is the lifted one, running values are display only."""

    station_code: str
    node: int
    fp: int
    state: PointState
    nozzle: int | None = None
    running_amount_fen: int | None = None
    running_quantity_milli: int | None = None
