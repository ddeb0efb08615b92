"""What activities need from the outside, as Protocols; adapters and repositories implement them, bootstrap wires them."""

from typing import Protocol

from contracts.payment import (
    AttemptRef,
    AttemptSpec,
    CloseOutcome,
    PaymentOutcome,
    RefundOutcome,
    RefundRequest,
)


class PaymentChannel(Protocol):
    """A way for money to move. Every method but `prepare` makes one remote call, is synchronous, keeps no state,
    never retries and never raises for a business or transport failure: those are outcomes. Retries belong to Temporal.
    """

    name: str

    def prepare(self, spec: AttemptSpec) -> str:
        """Return the exact request body (JSON text) of an attempt; pure, no I/O. It is stored before it is sent."""
        ...

    def create(self, ref: AttemptRef) -> PaymentOutcome:
        """Place the order at the channel; PENDING with `client_params` when the customer may pay now."""
        ...

    def charge_code(self, ref: AttemptRef) -> PaymentOutcome:
        """Charge a scanned pay code."""
        ...

    def query(self, ref: AttemptRef) -> PaymentOutcome:
        """Ask what became of an attempt: the truth."""
        ...

    def close(self, ref: AttemptRef) -> CloseOutcome:
        """Ask the channel to make the attempt unpayable."""
        ...

    def reverse(self, ref: AttemptRef) -> CloseOutcome:
        """Undo a pay-code trade, paid or not."""
        ...

    def refund(self, request: RefundRequest) -> RefundOutcome:
        """Give money of a paid attempt back."""
        ...

    def query_refund(self, request: RefundRequest) -> RefundOutcome:
        """Ask how a refund stands."""
        ...
