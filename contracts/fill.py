"""Messages of the FillAndPay workflow: input, updates, signals, status. Amounts in fen, quantities in thousandths."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from contracts.station import SaleRecord
from domain.order import FillMode, OrderStatus
from domain.payment import PayMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFill:
    """A prepaid start: which nozzle, how much money, and the price that the customer saw.

    `driver_id` is set for the mini-program, `cashier_id` or `terminal_id` for a start at the counter or a kiosk.
    """

    order_no: str
    station_code: str
    nozzle_no: int
    amount_fen: int
    price_fen_per_unit: int
    price_version: int
    method: PayMethod
    body_hash: str
    driver_id: int | None = None
    cashier_id: int | None = None
    terminal_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FillInput:
    """Input of FillAndPay: exactly one of `start` (prepaid) and `sale` (the dispenser was first)."""

    order_no: str
    start: StartFill | None = None
    sale: SaleRecord | None = None


class StartOutcome(StrEnum):
    """How a start ended."""

    ACCEPTED = "accepted"
    PRICE_CHANGED = "price_changed"
    NOZZLE_TAKEN = "nozzle_taken"
    NOZZLE_UNKNOWN = "nozzle_unknown"
    NOZZLE_CLOSED = "nozzle_closed"
    STATION_STALE = "station_stale"
    AMOUNT_INVALID = "amount_invalid"
    KEY_REUSED = "key_reused"
    """Same idempotency key, other body."""
    PAYMENT_UNAVAILABLE = "payment_unavailable"
    TOO_MANY_UNPAID = "too_many_unpaid"
    """The driver holds as many pumps without having paid as one may."""


class PayState(StrEnum):
    """How a request to pay stands."""

    WAITING = "waiting"
    """The customer has to confirm; `client_params` says how."""
    PAID = "paid"
    FAILED = "failed"
    """Definite: this attempt took nothing and never will; another method may be used."""
    ALREADY_PAID = "already_paid"
    """Another screen was faster."""
    NOT_PAYABLE = "not_payable"
    UNCERTAIN = "uncertain"
    """The channel has not decided; the order finds out by itself. Do not pay again yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayAnswer:
    """What the screen shows after a request to pay."""

    state: PayState
    out_trade_no: str = ""
    method: PayMethod | None = None
    amount_fen: int = 0
    client_params: dict[str, str] = field(default_factory=dict)
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAnswer:
    """The validated quote and the channel's payment parameters, or why there is none (then nothing has changed)."""

    outcome: StartOutcome
    order_no: str
    price_fen_per_unit: int = 0
    price_version: int = 0
    amount_fen: int = 0
    pay: PayAnswer | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayCommand:
    """Pay an order that waits for money. `auth_code` only with WECHAT_CODE, `driver_id` only with WECHAT_JSAPI.

    `screen` names who asked (phone, kiosk, pillar, pos, cashier) for the story of the order.
    """

    method: PayMethod
    screen: str
    driver_id: int | None = None
    terminal_id: int | None = None
    cashier_id: int | None = None
    auth_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CashCommand:
    """A cashier took the whole amount in cash; `received_fen` must equal what is due (change is the till's business)."""

    cashier_id: int
    received_fen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelCommand:
    """End an order with a reason; `actor` is `driver:ID` or `staff:ID`."""

    actor: str
    reason: str


class ResolveAction(StrEnum):
    """What a person decides about an order that needs one."""

    CHARGE_DEVICE_AMOUNT = "charge_device_amount"
    """A flagged sale: charge what the meter showed."""
    CHARGE_AMOUNT = "charge_amount"
    """A flagged or missing sale: charge `amount_fen`."""
    COLLECT_CASH = "collect_cash"
    """A shortfall was paid at the counter."""
    WRITE_OFF = "write_off"
    """A shortfall is the station's loss."""
    CASH_RETURNED = "cash_returned"
    """Cash was handed back: the rest of a cash prepayment, or a refund that the channel closed or refused for good."""
    RETRY_REFUND = "retry_refund"
    """Ask the channel for a refund again; never for money that is held."""
    RELEASE_HELD = "release_held"
    """Money of a wrong amount was looked into: return it the way it came."""
    NOTHING_DISPENSED = "nothing_dispensed"
    """A person looked at the dispenser: no fuel went out; return the money."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveCommand:
    """A person's decision; `note` is the reason that the audit keeps."""

    actor: str
    action: ResolveAction
    note: str
    amount_fen: int | None = None
    by_cashier: bool = False
    """A cashier hands back only what was paid in cash; anything else out of the till is a manager's decision."""
    need: str = ""
    """What the order asked for when the person decided; empty when they did not say. Another need is not theirs."""
    refund_nos: tuple[str, ...] = ()
    """Only for CASH_RETURNED: the refunds whose sum was counted out, as the person saw them; these and no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAnswer:
    """The answer to a person's command: done or refused, with the words to show.

    `returned` are the refunds that this person settled by cash handed back, `returned_fen` is their sum, `earlier_fen`
    what of it an earlier command of theirs settled. `by_others` are those that another person handed back. Both count
    from the person's word on: the books may have them a moment later.
    """

    ok: bool
    status: OrderStatus | None
    code: str = ""
    message: str = ""
    returned: tuple[str, ...] = ()
    returned_fen: int = 0
    earlier_fen: int = 0
    by_others: tuple[str, ...] = ()
    by_others_fen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FillStatus:
    """Query result: where the order is, what it waits for, and who can move it."""

    order_no: str
    mode: FillMode
    status: OrderStatus | None
    waits_for: str
    needs_person: str
    paid_fen: int
    charge_fen: int
    refunded_fen: int
    open_attempts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FillResult:
    """How an order ended; `start` is set when a prepaid start was refused."""

    order_no: str
    status: OrderStatus | None
    paid_fen: int = 0
    charge_fen: int = 0
    refunded_fen: int = 0
    start: StartAnswer | None = None
    ended_at: datetime | None = None
