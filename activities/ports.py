"""What activities need from the outside, as Protocols; adapters and repositories implement them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from activities.records import (
    AttemptRecord,
    EventRecord,
    NozzleQuote,
    OrderPlace,
    OrderRecord,
    OutboxRecord,
    ReceiptRecord,
    RefundRecord,
    SaleRow,
)
from contracts.payment import (
    AttemptRef,
    AttemptSpec,
    CloseOutcome,
    PaymentOutcome,
    RefundOutcome,
    RefundRequest,
)
from domain.ledger import Journal


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


class Stations(Protocol):
    """Stations, nozzles, prices and who holds a fuelling point."""

    def quote(self, station_code: str, nozzle_no: int, at: datetime) -> NozzleQuote | None:
        """Return the nozzle with the price in force at `at`; None when there is no such nozzle or no price."""
        ...

    def quote_of_device(
        self, station_code: str, node: int, fp: int, device_nozzle: int, at: datetime
    ) -> NozzleQuote | None:
        """Return the same by the dispenser's own numbers."""
        ...

    def version_of_price(
        self, station_id: int, product_id: int, price_fen_per_unit: int, since: datetime, until: datetime
    ) -> int | None:
        """Return the latest version with this price that was in force at some time of a period; None when none was."""
        ...

    def hold(self, fuelling_point_id: int, order_no: str, until: datetime | None, now: datetime) -> bool:
        """Take the fuelling point for an order; False when another order has it."""
        ...

    def release(self, fuelling_point_id: int, order_no: str) -> None:
        """Let go of the fuelling point, if this order has it."""
        ...


class Orders(Protocol):
    """Orders, their story, sales and receipts."""

    def get_for_update(self, order_no: str) -> tuple[OrderRecord, OrderPlace] | None:
        """Return the locked row and its place; None when there is no such order."""
        ...

    def insert(self, order: OrderRecord) -> None:
        """Insert a new order."""
        ...

    def awaiting_payment_of(self, driver_id: int) -> int:
        """Return how many prepaid orders of a driver wait for money."""
        ...

    def save(self, order: OrderRecord) -> None:
        """Write the changeable fields of a locked row."""
        ...

    def add_events(self, events: tuple[EventRecord, ...]) -> None:
        """Append to the story; a key that is already there is left alone."""
        ...

    def sale_of(self, order_no: str) -> SaleRow | None:
        """Return the order's sale."""
        ...

    def order_of_sale(self, natural_key: str) -> str | None:
        """Return the order that has a sale; None when no order has it."""
        ...

    def insert_sale(self, sale: SaleRow) -> bool:
        """Insert the sale; False when its natural key is booked already."""
        ...

    def insert_receipt(self, receipt: ReceiptRecord) -> None:
        """Insert the order's only receipt; a second one is left out."""
        ...

    def insert_outbox(self, message: OutboxRecord) -> None:
        """Owe a customer a message; a key that is already there is left alone."""
        ...


class Payments(Protocol):
    """Payment attempts and refunds."""

    def attempt(self, out_trade_no: str) -> AttemptRecord | None:
        """Return an attempt (lock the order first)."""
        ...

    def attempts_of(self, order_no: str) -> list[AttemptRecord]:
        """Return the order's attempts, oldest first."""
        ...

    def insert_attempt(self, attempt: AttemptRecord) -> None:
        """Insert a new attempt."""
        ...

    def save_attempt(self, attempt: AttemptRecord) -> None:
        """Write status, client parameters, transaction and payer amount."""
        ...

    def refunds_of(self, order_no: str) -> list[RefundRecord]:
        """Return the order's refunds, oldest first."""
        ...

    def insert_refund(self, refund: RefundRecord) -> None:
        """Insert a new refund."""
        ...

    def save_refund(self, refund: RefundRecord) -> None:
        """Write status, channel id, code and end."""
        ...


class Ledger(Protocol):
    """The double-entry ledger."""

    def post(self, order_no: str, journal: Journal, at: datetime) -> bool:
        """Post a journal; False when the same journal is already there.

        Raises LedgerConflictError when the key exists with other entries.
        """
        ...


class Drivers(Protocol):
    """What payments need to know of a driver."""

    def openid(self, driver_id: int, *, lock: bool = False) -> str | None:
        """Return the driver's openid in clear, for the channel only; None when unknown.

        With `lock` the driver's other transactions that lock wait for this one.
        """
        ...


class Transaction(Protocol):
    """One database transaction: repositories over one connection; commits when the block ends without error."""

    orders: Orders
    payments: Payments
    ledger: Ledger
    stations: Stations
    drivers: Drivers


UnitOfWork = Callable[[], AbstractContextManager[Transaction]]
"""Opens a transaction; rolls back on any exception."""


class LedgerConflictError(Exception):
    """A journal key was used before with other entries: a bug or tampering, never to be retried."""
