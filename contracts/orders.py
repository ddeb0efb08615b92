"""Messages between FillAndPay and the order activities (one database transaction each). Amounts in fen."""

from dataclasses import dataclass, field
from enum import StrEnum

from contracts.fill import PayCommand, StartAnswer, StartFill
from contracts.payment import AttemptRef, PaymentOutcome, RefundOutcome, RefundRequest
from contracts.station import SaleRecord
from domain.order import NEEDS_FOR_INFORMATION, FillMode, OrderStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """What the workflow keeps of the order row; every transaction returns the new view. Amounts in fen."""

    order_no: str
    mode: FillMode
    status: OrderStatus
    operator_code: str
    station_code: str
    nozzle_no: int
    product_name: str
    unit: str
    due_fen: int
    """What a payment has to bring: the preset (prepaid) or the charge (post-paid)."""
    paid_fen: int
    charge_fen: int
    refunded_fen: int
    shortfall_fen: int
    price_fen_per_unit: int
    gateway_shard: int
    node: int
    fp: int
    device_nozzle: int
    needs_person: str = ""

    @property
    def needs_decision(self) -> bool:
        """Return whether the order waits for what only a person can decide."""
        return self.needs_person not in ("", *NEEDS_FOR_INFORMATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedOrder:
    """A prepaid order that was opened (then `view` and `attempt` are set) or the refusal."""

    answer: StartAnswer
    view: OrderView | None = None
    attempt: AttemptRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """Open a prepaid order and its first attempt."""

    start: StartFill


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSale:
    """Open a post-paid order from a finished sale."""

    order_no: str
    sale: SaleRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSale:
    """The order of a sale, or why there is none: another order has the sale already (a report that was told twice),
    or nobody has set up its nozzle (then it may be asked for again)."""

    view: OrderView | None = None
    owner_order_no: str = ""
    place_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginAttempt:
    """Add a payment attempt; `command_id` makes a repeated request meet its first attempt."""

    order_no: str
    command_id: str
    pay: PayCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunAttempt:
    """The attempt to send, or None with the reason (`already_paid`, `not_payable`) why there is none."""

    view: OrderView
    attempt: AttemptRef | None = None
    refused: str = ""
    is_new: bool = True
    client_params: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordAttempt:
    """Keep how an attempt stands when no money moved: client parameters, failed, closed."""

    outcome: PaymentOutcome
    closed: bool = False


class PostVerdict(StrEnum):
    """What money that arrived means for its order."""

    ACCEPTED = "accepted"
    NOZZLE_LOST = "nozzle_lost"
    """Late money, and the fuelling point has another order by now: it goes back (N17)."""
    SURPLUS = "surplus"
    QUARANTINED = "quarantined"
    """The channel's amount is not ours: recorded, credited to nobody, returned once a person says so (R08)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostPayment:
    """Post money that the channel confirmed."""

    order_no: str
    outcome: PaymentOutcome
    cancelled: bool = False
    """A cancel came first: accept the money only to give it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedPayment:
    """The order afterwards, the verdict, and the refund that is now owed (if any)."""

    view: OrderView
    verdict: PostVerdict
    refund: RefundRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleSale:
    """Settle a prepaid order by its sale; `charge_fen` is a person's decision that overrides the device's amount."""

    order_no: str
    sale: SaleRecord
    charge_fen: int | None = None
    actor: str = "system"
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledSale:
    """The order afterwards; `flagged` when nothing was charged and a person decides; `refund` of the rest."""

    view: OrderView
    flagged: str = ""
    refund: RefundRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OweRefund:
    """Give the whole prepayment back."""

    order_no: str
    reason: str
    actor: str = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedRefund:
    """The order afterwards and its refund."""

    view: OrderView
    refund: RefundRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRefund:
    """Keep how a refund stands; posts it once when it succeeded."""

    order_no: str
    outcome: RefundOutcome
    actor: str = "system"
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewRefund:
    """Ask for a closed refund's money under a new number; the answer carries the new request."""

    order_no: str
    out_refund_no: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordAuthorised:
    """The dispenser has the preset."""

    order_no: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOrder:
    """End an unpaid order: EXPIRED or CANCELLED; a post-paid sale is written off."""

    order_no: str
    status: OrderStatus
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagOrder:
    """Say that a person is needed (or, with an empty reason, no longer; then `note` is what that person decided).

    With `clears` only that need is taken back: another one that came meanwhile stays.
    """

    order_no: str
    reason: str
    clears: str = ""
    actor: str = "system"
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveShortfall:
    """A person collected a shortfall in cash (`collected`) or wrote it off."""

    order_no: str
    collected: bool
    actor: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAttempt:
    """Find an attempt by its channel number."""

    out_trade_no: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedAttempt:
    """The attempt and its order's view; None when the number is not ours."""

    view: OrderView | None = None
    attempt: AttemptRef | None = None
