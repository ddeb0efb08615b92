"""Payment words: methods, the closed outcome of a channel call, attempt states.

An outside call ends in one of five ways. A timeout is UNKNOWN, never FAILED; only a signed answer may be
SUCCEEDED or FAILED. Releasing, refunding or charging again on UNKNOWN is a bug.
"""

from enum import StrEnum
from typing import assert_never

from domain.money import yuan


class PayMethod(StrEnum):
    """How the customer pays."""

    WECHAT_JSAPI = "wechat_jsapi"
    """Inside the mini-program (JSAPI)."""
    WECHAT_NATIVE = "wechat_native"
    """QR code on a kiosk, pay pillar or POS (Native)."""
    WECHAT_CODE = "wechat_code"
    """The attendant scans the customer's pay code (付款码)."""
    CASH = "cash"
    """At the counter."""

    @property
    def channel(self) -> str:
        """Return the channel that carries the money: `wechat` or `cash`.

        Names every method, so that a new one cannot fall to a channel by default: mypy, or an AssertionError, asks.
        """
        match self:
            case PayMethod.WECHAT_JSAPI | PayMethod.WECHAT_NATIVE | PayMethod.WECHAT_CODE:
                return "wechat"
            case PayMethod.CASH:
                return "cash"
            case _:
                assert_never(self)

    @property
    def label_zh(self) -> str:
        """Return the words on screens and receipts."""
        return {
            "wechat_jsapi": "微信支付",
            "wechat_native": "微信扫码",
            "wechat_code": "微信付款码",
            "cash": "现金",
        }[self.value]


class OutcomeKind(StrEnum):
    """How a channel call ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PENDING = "pending"
    NOT_FOUND = "not_found"
    UNKNOWN = "unknown"


class CloseKind(StrEnum):
    """How closing or reversing an attempt ended."""

    CLOSED = "closed"
    """Confirmed: this attempt can never capture (a reversed pay code counts: paid money went back)."""
    ALREADY_PAID = "already_paid"
    MUST_REVERSE = "must_reverse"
    """A pay-code trade: it is not closed but reversed."""
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    """Nothing was done: what became of the attempt is only told by its query, and a success stays one."""
    UNKNOWN = "unknown"
    """It may have been done or be done later: the success of a reversed pay code may still go back."""


class RefundKind(StrEnum):
    """How a refund stands."""

    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    ABNORMAL = "abnormal"
    """The payer's card is dead: a person has to choose another way."""
    CLOSED = "closed"
    """The channel did not refund; a new number is allowed, after a person looked."""
    REJECTED = "rejected"
    INSUFFICIENT = "insufficient"
    """The merchant's balance is short: the same number again later."""
    NOT_FOUND = "not_found"
    UNKNOWN = "unknown"
    HELD = "held"
    """Ours, never the channel's: not asked for until a person says so."""


NEED_OF_REFUND = {
    RefundKind.ABNORMAL: "refund_abnormal",
    RefundKind.CLOSED: "refund_closed",
    RefundKind.REJECTED: "refund_rejected",
    RefundKind.INSUFFICIENT: "refund_balance_short",
    RefundKind.HELD: "payment_amount_mismatch",
}
"""What a person is asked for while a refund stands so; any other refund goes on by itself."""
RETURN_CASH, REFUND_SLOW = "return_cash", "refund_slow"
"""Needs of cash that a person has to hand back, and of refunds that a channel takes long for."""

COUNTER = "COUNTER"
"""Code of a refund that no machine makes: a person hands the money back in cash at the counter."""

FOREIGN_CURRENCY = "CURRENCY"
"""Code of a payment that is paid, but not in yuan: reported as 0 fen, which no order asks for; a person looks."""


class AttemptStatus(StrEnum):
    """Where one payment attempt (one out_trade_no) stands."""

    OPEN = "open"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CLOSED = "closed"


ATTEMPT_ALLOWED: dict[AttemptStatus, frozenset[AttemptStatus]] = {
    AttemptStatus.OPEN: frozenset({AttemptStatus.SUCCEEDED, AttemptStatus.FAILED, AttemptStatus.CLOSED}),
    AttemptStatus.SUCCEEDED: frozenset(),
    AttemptStatus.FAILED: frozenset({AttemptStatus.SUCCEEDED}),
    AttemptStatus.CLOSED: frozenset({AttemptStatus.SUCCEEDED}),
}
"""FAILED and CLOSED may still turn SUCCEEDED: the channel is the truth, and late money is recorded, then returned."""


def cash_returned_zh(fen: int, *, earlier_fen: int) -> str:
    """Return what a person is told whose cash handed back is all booked; `earlier_fen` of it by an earlier command."""
    if earlier_fen == fen:
        return f"共 {yuan(fen)} 元此前已由您登记为现金退还，不再重复登记"
    words = f"共 {yuan(fen)} 元已登记为现金退还"
    return f"{words}，其中 {yuan(earlier_fen)} 元此前已由您登记，不再重复登记" if earlier_fen else words
