"""The order's states: one enum, one table of allowed moves, one `move()`; workflow and row use the same table.

A state says how far money and fuel have come. Whether a person is needed is a separate flag, because every
state can need one.
"""

from enum import StrEnum


class FillMode(StrEnum):
    """Who goes first: the money (prepaid) or the fuel (post-paid)."""

    PREPAID = "prepaid"
    POSTPAID = "postpaid"


class OrderStatus(StrEnum):
    """Where an order stands."""

    AWAITING_PAYMENT = "awaiting_payment"
    """Prepaid: quoted and held, the driver has not paid yet."""
    PAID = "paid"
    """Prepaid: the money is here, the dispenser is not known to be released."""
    AUTHORISED = "authorised"
    """Prepaid: the dispenser has the preset; fuel may flow."""
    DISPENSED = "dispensed"
    """Prepaid: the sale is recorded and posted, the rest is on its way back."""
    UNPAID = "unpaid"
    """Post-paid: fuel is delivered, nobody has paid yet."""
    REFUNDING = "refunding"
    """All of the money is on its way back."""
    COMPLETED = "completed"
    """Fuel delivered, money taken, rest returned."""
    REFUNDED = "refunded"
    """No fuel, all money returned."""
    EXPIRED = "expired"
    """Nobody paid in time and the channel confirmed that nobody can any more."""
    CANCELLED = "cancelled"
    """Ended by a person with a reason before any money was kept."""

    @property
    def is_final(self) -> bool:
        """Return whether nothing can follow."""
        return not ALLOWED[self]

    @property
    def label_zh(self) -> str:
        """Return the words that drivers and cashiers read."""
        return _LABEL_ZH[self]


NEEDS_FOR_INFORMATION = frozenset(
    {"refund_slow", "code_reverse_unconfirmed", "close_unconfirmed", "payment_unconfirmed", "unpaid_too_long"}
)
"""Why a person may look at an order that goes on by itself; anything else waits for what only a person can decide."""

S = OrderStatus
ALLOWED: dict[OrderStatus, frozenset[OrderStatus]] = {
    S.AWAITING_PAYMENT: frozenset({S.PAID, S.EXPIRED, S.CANCELLED, S.REFUNDING}),
    S.PAID: frozenset({S.AUTHORISED, S.DISPENSED, S.COMPLETED, S.REFUNDING}),
    S.AUTHORISED: frozenset({S.DISPENSED, S.COMPLETED, S.REFUNDING}),
    S.DISPENSED: frozenset({S.COMPLETED}),
    S.UNPAID: frozenset({S.COMPLETED, S.CANCELLED}),
    S.REFUNDING: frozenset({S.REFUNDED}),
    S.COMPLETED: frozenset(),
    S.REFUNDED: frozenset(),
    S.EXPIRED: frozenset(),
    S.CANCELLED: frozenset(),
}
INITIAL: dict[FillMode, OrderStatus] = {FillMode.PREPAID: S.AWAITING_PAYMENT, FillMode.POSTPAID: S.UNPAID}

_LABEL_ZH: dict[OrderStatus, str] = {
    S.AWAITING_PAYMENT: "待支付",
    S.PAID: "已支付，等待油机",
    S.AUTHORISED: "请提枪加注",
    S.DISPENSED: "已加注，余款退回中",
    S.UNPAID: "待付款",
    S.REFUNDING: "退款中",
    S.COMPLETED: "已完成",
    S.REFUNDED: "已全额退款",
    S.EXPIRED: "已过期",
    S.CANCELLED: "已取消",
}


class IllegalMoveError(ValueError):
    """A move that the table does not allow; carries both ends."""

    def __init__(self, old: OrderStatus, new: OrderStatus) -> None:
        super().__init__(f"order cannot move from {old} to {new}")
        self.old, self.new = old, new


def move(old: OrderStatus, new: OrderStatus) -> OrderStatus:
    """Return `new` when the table allows the move.

    Raises IllegalMoveError otherwise; staying in place is not a move.
    """
    if new not in ALLOWED[old]:
        raise IllegalMoveError(old, new)
    return new
