"""Cash at the counter as a payment channel: the cashier confirms, a person hands money back."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

from contracts.payment import (
    AttemptRef,
    AttemptSpec,
    CloseOutcome,
    PaymentOutcome,
    RefundOutcome,
    RefundRequest,
)
from domain.payment import COUNTER, CloseKind, OutcomeKind, PayMethod, RefundKind


def utc_now() -> datetime:
    """Return the wall clock."""
    return datetime.now(tz=UTC)


class CashChannel:
    """Implements `PaymentChannel` for cash.

    An attempt exists only because a cashier confirmed that the money is in the drawer, so every answer about
    it is SUCCEEDED and nothing can make it unpaid. `signed` is true: the word is our own.
    """

    name = "cash"

    def __init__(self, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock

    def prepare(self, spec: AttemptSpec) -> str:
        """Return what is kept of the attempt; raises ValueError when it is not cash or below 1 fen."""
        if spec.method is not PayMethod.CASH:
            raise ValueError(f"not cash: {spec.method}")
        if isinstance(spec.amount_fen, bool) or not isinstance(spec.amount_fen, int) or spec.amount_fen < 1:
            raise ValueError("the amount must be at least 1 fen, as an integer")
        kept = {"out_trade_no": spec.out_trade_no, "total": spec.amount_fen, "station": spec.station_code}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"), sort_keys=True)

    def create(self, ref: AttemptRef) -> PaymentOutcome:
        """Take the cashier's word: SUCCEEDED."""
        return self._taken(ref)

    def charge_code(self, ref: AttemptRef) -> PaymentOutcome:
        """Take the cashier's word: SUCCEEDED."""
        return self._taken(ref)

    def query(self, ref: AttemptRef) -> PaymentOutcome:
        """Say the same again: never UNKNOWN."""
        return self._taken(ref)

    def close(self, ref: AttemptRef) -> CloseOutcome:
        """Cash in the drawer is paid."""
        return CloseOutcome(kind=CloseKind.ALREADY_PAID, out_trade_no=ref.out_trade_no)

    def reverse(self, ref: AttemptRef) -> CloseOutcome:
        """Cash in the drawer is paid; it goes back by a refund."""
        return CloseOutcome(kind=CloseKind.ALREADY_PAID, out_trade_no=ref.out_trade_no)

    def refund(self, request: RefundRequest) -> RefundOutcome:
        """REJECTED with `COUNTER`: the workflow asks a person."""
        return RefundOutcome(
            kind=RefundKind.REJECTED,
            out_refund_no=request.out_refund_no,
            code=COUNTER,
            message="现金由柜台退还",
        )

    def query_refund(self, request: RefundRequest) -> RefundOutcome:
        """As `refund`: only a person knows."""
        return self.refund(request)

    def _taken(self, ref: AttemptRef) -> PaymentOutcome:
        return PaymentOutcome(
            kind=OutcomeKind.SUCCEEDED,
            out_trade_no=ref.out_trade_no,
            trade_state="SUCCESS",
            transaction_id=f"CASH-{ref.out_trade_no}",
            amount_fen=ref.amount_fen,
            payer_amount_fen=ref.amount_fen,
            paid_at=self._clock(),
            signed=True,
        )
