"""What crosses the payment boundary: attempts, the closed outcomes of channel calls, refunds."""

from dataclasses import dataclass, field
from datetime import datetime

from domain.payment import CloseKind, OutcomeKind, PayMethod, RefundKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSpec:
    """What a channel needs to make the exact request bytes of an attempt; amounts in fen.

    `payer` is the payer's openid (JSAPI) or the scanned pay code (付款码), else None.
    """

    out_trade_no: str
    method: PayMethod
    amount_fen: int
    description: str
    expires_at: datetime
    station_code: str
    payer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRef:
    """One payment attempt at a channel. `request_body` is sent byte for byte on every retry (WeChat refuses a changed one)."""

    out_trade_no: str
    method: PayMethod
    amount_fen: int
    request_body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentOutcome:
    """The answer of a channel about one attempt.

    SUCCEEDED carries transaction_id, amount_fen (the order total, compare this) and payer_amount_fen (after
    coupons) and paid_at. PENDING after a create carries `client_params` (what the phone or the QR code needs).
    FAILED is definite and signed. `code` is the channel's code, `trade_state` its state.
    """

    kind: OutcomeKind
    out_trade_no: str
    code: str = ""
    message: str = ""
    trade_state: str = ""
    transaction_id: str = ""
    amount_fen: int = 0
    payer_amount_fen: int = 0
    paid_at: datetime | None = None
    client_params: dict[str, str] = field(default_factory=dict)
    new_attempt_allowed: bool = False
    request_id: str = ""
    http_status: int = 0
    signed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOutcome:
    """The answer to closing or reversing an attempt."""

    kind: CloseKind
    out_trade_no: str
    code: str = ""
    message: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRequest:
    """One refund; amounts in fen. The same out_refund_no is used until the refund is terminal.

    `held`: only after a person said so (money of a wrong amount).
    """

    method: PayMethod
    out_trade_no: str
    out_refund_no: str
    refund_fen: int
    total_fen: int
    reason: str
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOutcome:
    """The answer of a channel about one refund; amount in fen."""

    kind: RefundKind
    out_refund_no: str
    amount_fen: int = 0
    refund_id: str = ""
    code: str = ""
    message: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentReported:
    """Signal: a channel reported something about an attempt. Only a hint; the workflow asks the channel."""

    out_trade_no: str
    out_refund_no: str = ""
    notification_id: str = ""
