"""A stateful fake payment channel: trades with states, a customer who pays when the test says so, its own ledger."""

import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from contracts.payment import (
    AttemptRef,
    AttemptSpec,
    CloseOutcome,
    PaymentOutcome,
    RefundOutcome,
    RefundRequest,
)
from domain.payment import CloseKind, OutcomeKind, PayMethod, RefundKind


@dataclass
class Trade:
    """One out_trade_no at the channel."""

    amount_fen: int
    state: str = "NOTPAY"
    refunds: dict[str, int] = field(default_factory=dict)


class FakeChannel:
    """Keeps trades under a lock; `script` answers the next calls of a method with a given outcome instead."""

    name = "wechat"

    def __init__(self) -> None:
        self.trades: dict[str, Trade] = {}
        self.calls: list[tuple[str, str]] = []
        self.script: dict[str, list[PaymentOutcome | CloseOutcome | RefundOutcome | str]] = {}
        self.pay_on_close: set[str] = set()
        self.refunds_to_close = 0
        """So many of the next refund numbers are closed, and stay so for ever, as at WeChat."""
        self.closed_refunds: set[str] = set()
        self.captures = 0
        self._lock = threading.RLock()

    def customer_pays(self, out_trade_no: str) -> None:
        """The customer confirms on the phone; a closed trade cannot be paid."""
        with self._lock:
            trade = self.trades[out_trade_no]
            if trade.state in ("NOTPAY", "USERPAYING"):
                trade.state = "SUCCESS"
                self.captures += 1

    def count(self, method: str) -> int:
        """Return how often a method was called."""
        return sum(1 for name, _ in self.calls if name == method)

    def net_of(self, order_no: str) -> int:
        """Return what the merchant kept of an order: captured minus refunded."""
        trades = [t for no, t in self.trades.items() if no.startswith(order_no) and t.state == "SUCCESS"]
        return sum(t.amount_fen - sum(t.refunds.values()) for t in trades)

    def prepare(self, spec: AttemptSpec) -> str:
        """Return the request body."""
        return f"{spec.out_trade_no}:{spec.amount_fen}:{spec.payer or ''}"

    def _scripted(
        self, method: str, number: str
    ) -> PaymentOutcome | CloseOutcome | RefundOutcome | str | None:
        self.calls.append((method, number))
        queue = self.script.get(method)
        return queue.pop(0) if queue else None

    def create(self, ref: AttemptRef) -> PaymentOutcome:
        """Place a trade."""
        with self._lock:
            scripted = self._scripted("create", ref.out_trade_no)
            if scripted != "lost_before":
                self.trades.setdefault(ref.out_trade_no, Trade(amount_fen=ref.amount_fen))
            if isinstance(scripted, PaymentOutcome):
                return replace(scripted, out_trade_no=ref.out_trade_no)
            if scripted is not None:
                return PaymentOutcome(kind=OutcomeKind.UNKNOWN, out_trade_no=ref.out_trade_no, code="TIMEOUT")
            if ref.method is PayMethod.CASH:
                self.customer_pays(ref.out_trade_no)
                return self._state(ref)
            params = {"prepay_id": f"wx{ref.out_trade_no}"}
            return PaymentOutcome(
                kind=OutcomeKind.PENDING, out_trade_no=ref.out_trade_no, client_params=params, signed=True
            )

    def charge_code(self, ref: AttemptRef) -> PaymentOutcome:
        """Charge a code: `...0000` pays, `...0001` has no money, `...0010` asks the user, `...0022` loses the answer."""
        with self._lock:
            self._scripted("charge_code", ref.out_trade_no)
            code = ref.request_body.rpartition(":")[2][-4:]
            trade = self.trades.setdefault(ref.out_trade_no, Trade(amount_fen=ref.amount_fen))
            if code == "0000":
                self.customer_pays(ref.out_trade_no)
                return self._state(ref)
            if code == "0022":
                self.customer_pays(ref.out_trade_no)
                return PaymentOutcome(kind=OutcomeKind.UNKNOWN, out_trade_no=ref.out_trade_no, code="TIMEOUT")
            if code == "0010":
                trade.state = "USERPAYING"
                return PaymentOutcome(
                    kind=OutcomeKind.PENDING, out_trade_no=ref.out_trade_no, trade_state="USERPAYING"
                )
            trade.state = "PAYERROR"
            return PaymentOutcome(
                kind=OutcomeKind.FAILED, out_trade_no=ref.out_trade_no, code="NOT_ENOUGH", signed=True
            )

    def query(self, ref: AttemptRef) -> PaymentOutcome:
        """Return the state of a trade."""
        with self._lock:
            scripted = self._scripted("query", ref.out_trade_no)
            if isinstance(scripted, PaymentOutcome):
                return replace(scripted, out_trade_no=ref.out_trade_no)
            if ref.out_trade_no not in self.trades:
                return PaymentOutcome(kind=OutcomeKind.NOT_FOUND, out_trade_no=ref.out_trade_no)
            return self._state(ref)

    def _state(self, ref: AttemptRef) -> PaymentOutcome:
        trade = self.trades[ref.out_trade_no]
        if trade.state == "SUCCESS":
            return PaymentOutcome(
                kind=OutcomeKind.SUCCEEDED,
                out_trade_no=ref.out_trade_no,
                transaction_id=f"42{ref.out_trade_no}",
                amount_fen=trade.amount_fen,
                payer_amount_fen=trade.amount_fen,
                paid_at=datetime.now(tz=UTC),
                trade_state="SUCCESS",
                signed=True,
            )
        failed = trade.state in ("CLOSED", "REVOKED", "PAYERROR")
        kind = OutcomeKind.FAILED if failed else OutcomeKind.PENDING
        return PaymentOutcome(kind=kind, out_trade_no=ref.out_trade_no, trade_state=trade.state, signed=True)

    def close(self, ref: AttemptRef) -> CloseOutcome:
        """Close an unpaid trade."""
        with self._lock:
            scripted = self._scripted("close", ref.out_trade_no)
            if isinstance(scripted, CloseOutcome):
                return replace(scripted, out_trade_no=ref.out_trade_no)
            trade = self.trades.get(ref.out_trade_no)
            if trade is None:
                return CloseOutcome(kind=CloseKind.NOT_FOUND, out_trade_no=ref.out_trade_no)
            if ref.out_trade_no in self.pay_on_close:
                self.customer_pays(ref.out_trade_no)
            if trade.state == "SUCCESS":
                return CloseOutcome(kind=CloseKind.ALREADY_PAID, out_trade_no=ref.out_trade_no)
            trade.state = "CLOSED"
            return CloseOutcome(kind=CloseKind.CLOSED, out_trade_no=ref.out_trade_no)

    def reverse(self, ref: AttemptRef) -> CloseOutcome:
        """Reverse a code trade; money that it took goes back."""
        with self._lock:
            scripted = self._scripted("reverse", ref.out_trade_no)
            if isinstance(scripted, CloseOutcome):
                return replace(scripted, out_trade_no=ref.out_trade_no)
            trade = self.trades.get(ref.out_trade_no)
            if trade is not None:
                trade.state = "REVOKED"
            return CloseOutcome(kind=CloseKind.CLOSED, out_trade_no=ref.out_trade_no)

    def refund(self, request: RefundRequest) -> RefundOutcome:
        """Refund once per number."""
        with self._lock:
            scripted = self._scripted("refund", request.out_refund_no)
            if isinstance(scripted, RefundOutcome):
                return replace(scripted, out_refund_no=request.out_refund_no)
            if request.method is PayMethod.CASH:
                return RefundOutcome(
                    kind=RefundKind.REJECTED, out_refund_no=request.out_refund_no, code="COUNTER"
                )
            trade = self.trades[request.out_trade_no]
            assert trade.amount_fen == request.total_fen
            if self.refunds_to_close and request.out_refund_no not in self.closed_refunds:
                self.refunds_to_close -= 1
                self.closed_refunds.add(request.out_refund_no)
            if request.out_refund_no in self.closed_refunds:
                return RefundOutcome(kind=RefundKind.CLOSED, out_refund_no=request.out_refund_no)
            trade.refunds.setdefault(request.out_refund_no, request.refund_fen)
            assert sum(trade.refunds.values()) <= trade.amount_fen
            if scripted == "lost":
                return RefundOutcome(kind=RefundKind.UNKNOWN, out_refund_no=request.out_refund_no)
            return self.query_refund(request)

    def query_refund(self, request: RefundRequest) -> RefundOutcome:
        """Return how a refund stands."""
        with self._lock:
            scripted = self._scripted("query_refund", request.out_refund_no)
            if isinstance(scripted, RefundOutcome):
                return replace(scripted, out_refund_no=request.out_refund_no)
            if request.out_refund_no in self.closed_refunds:
                return RefundOutcome(kind=RefundKind.CLOSED, out_refund_no=request.out_refund_no)
            amount = self.trades[request.out_trade_no].refunds.get(request.out_refund_no)
            kind = RefundKind.NOT_FOUND if amount is None else RefundKind.SUCCEEDED
            return RefundOutcome(
                kind=kind, out_refund_no=request.out_refund_no, amount_fen=amount or 0, refund_id="50x"
            )
