"""What the API needs from the outside, as Protocols and their errors; `api/main.py` wires the real ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from contracts.fill import (
    CancelCommand,
    CashCommand,
    CommandAnswer,
    PayAnswer,
    PayCommand,
    ResolveCommand,
    StartAnswer,
    StartFill,
)
from contracts.payment import PaymentReported


class Clock(Protocol):
    """Where the time comes from."""

    def __call__(self) -> datetime:
        """Return the present time, with a zone."""
        ...


class TemporalAwayError(Exception):
    """Temporal or the worker did not answer in time: nothing is lost, the same request may be sent again."""


class OrderEndedError(Exception):
    """There is no running workflow of this order: it has ended, or there never was one."""


class CommandRejectedError(Exception):
    """The workflow refused a command before it did anything; `code` is the reason for machines."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLabels:
    """What ops staff read about a workflow in lists: its search attributes and its one-line summary."""

    operator_code: str
    station_code: str
    summary: str


class TemporalGateway(Protocol):
    """The workflows as the API sees them.

    Every method raises TemporalAwayError when there was no answer in time; updates raise OrderEndedError and
    CommandRejectedError. The same `update_id` returns the first answer.
    """

    async def start_fill(self, fill: StartFill, labels: OrderLabels) -> StartAnswer:
        """Start the order, or meet it when it was started before, and return its quote."""
        ...

    async def pay(self, order_no: str, command: PayCommand, update_id: str) -> PayAnswer:
        """Ask an order for a payment."""
        ...

    async def take_cash(self, order_no: str, command: CashCommand, update_id: str) -> CommandAnswer:
        """Tell an order that a cashier took its money."""
        ...

    async def cancel(self, order_no: str, command: CancelCommand, update_id: str) -> CommandAnswer:
        """Ask an order to end."""
        ...

    async def resolve(self, order_no: str, command: ResolveCommand, update_id: str) -> CommandAnswer:
        """Tell an order what a person decided."""
        ...

    async def report_payment(self, order_no: str, report: PaymentReported) -> None:
        """Signal an order that a channel reported something; raises OrderEndedError when it does not run."""
        ...

    async def report_surplus(self, report: PaymentReported) -> None:
        """Signal a running return of a surplus; raises OrderEndedError when none runs."""
        ...

    async def return_surplus(self, report: PaymentReported, labels: OrderLabels) -> None:
        """Start giving back a payment whose order has ended; a second start does nothing."""
        ...

    async def check(self) -> None:
        """Ask whether Temporal answers."""
        ...


class LoginRefusedError(Exception):
    """The mini-program host does not accept the code (invalid, used, or a user at risk)."""


class HostBusyError(Exception):
    """The mini-program host is busy or away; the same request may be sent again."""


class MiniProgram(Protocol):
    """The mini-program host. Synchronous: called in a thread. Raises LoginRefusedError or HostBusyError."""

    def openid_of(self, code: str) -> str:
        """Return the openid behind a login code."""
        ...

    def phone_of(self, code: str) -> str:
        """Return the phone number behind a phone code."""
        ...


class NotificationRefusedError(Exception):
    """A notification that the channel did not sign, or that we cannot read; `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelNotification:
    """What a verified notification says; amount in fen. Empty where the event has no such thing."""

    id: str
    event_type: str
    out_trade_no: str
    out_refund_no: str = ""
    state: str = ""
    transaction_id: str = ""
    amount_fen: int = 0


class NotificationVerifier(Protocol):
    """Checks and opens channel notifications. Synchronous: called in a thread."""

    def verify(self, headers: Mapping[str, str], body: bytes) -> ChannelNotification:
        """Return what the raw bytes say.

        Raises NotificationRefusedError when they are not the channel's.
        """
        ...
