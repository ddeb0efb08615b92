"""What a person is asked to decide about: the refunds behind a need, and the amount that stands in another column for
each reason.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, literal, select
from sqlalchemy.orm import Session
from sqlmodel import col

from db.repositories.views import OrderRow
from db.tables.order import FuelOrder, OrderEvent
from db.tables.payment import PaymentAttempt, Refund
from domain import ids
from domain.payment import COUNTER, NEED_OF_REFUND, REFUND_SLOW, RETURN_CASH, PayMethod, RefundKind

_MONEY_GOES_BACK = frozenset({*NEED_OF_REFUND.values(), REFUND_SLOW, RETURN_CASH})
"""Reasons that are about refunds which have not come through, held money among them."""


@dataclass(frozen=True, slots=True)
class AskedRefund:
    """One refund that a need is about; amount in fen."""

    out_refund_no: str
    amount_fen: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person decides about: an amount in fen, and the refunds that it is the sum of, where it is one."""

    fen: int
    refunds: tuple[AskedRefund, ...] = ()


def asked_of(db: Connection | Session, orders: Sequence[FuelOrder | OrderRow]) -> dict[str, Asked]:
    """Return what is asked by order number; an order that waits for something else than money is left out."""
    found = {o.order_no: Asked(o.shortfall_fen) for o in orders if o.needs_person == "shortfall"}
    found |= {o.order_no: Asked(o.charge_fen) for o in orders if o.needs_person == "unpaid_too_long"}
    returning = {o.order_no: o.needs_person for o in orders if o.needs_person in _MONEY_GOES_BACK}
    for order_no, refunds in refunds_asked(db, returning).items():
        found[order_no] = Asked(sum(one.amount_fen for one in refunds), refunds)
    return {order_no: asked for order_no, asked in found.items() if asked.fen > 0}


def refunds_asked(db: Connection | Session, needs: Mapping[str, str]) -> dict[str, tuple[AskedRefund, ...]]:
    """Return the refunds that each order's need is about: only those that stand so, each under its latest number.

    A sum of everything that is open would have cash handed out that a channel pays too.
    """
    found: dict[str, tuple[AskedRefund, ...]] = dict.fromkeys(needs, ())
    if not needs:
        return found
    query = (
        select(
            col(Refund.order_no),
            col(Refund.out_refund_no),
            col(Refund.amount_fen),
            col(Refund.status),
            col(PaymentAttempt.method),
        )
        .join(PaymentAttempt, col(PaymentAttempt.out_trade_no) == col(Refund.out_trade_no))
        .where(col(Refund.order_no).in_(needs))
        .order_by(col(Refund.out_refund_no))
    )
    rows = db.execute(query).all()
    latest = ids.latest_refund_nos(row.out_refund_no for row in rows)
    for row in rows:
        stands = _need_of(RefundKind(row.status), PayMethod(row.method))
        if row.out_refund_no in latest and needs[row.order_no] == stands:
            found[row.order_no] += (AskedRefund(row.out_refund_no, row.amount_fen),)
    return found


def sum_of_refunds(db: Connection | Session, order_no: str, numbers: Collection[str]) -> int | None:
    """Return the sum in fen of refunds of one order, whatever became of them; None when one is not the order's."""
    query = select(col(Refund.amount_fen)).where(
        col(Refund.order_no) == order_no, col(Refund.out_refund_no).in_(numbers)
    )
    amounts = db.execute(query).scalars().all()
    return sum(amounts) if len(amounts) == len(numbers) else None


@dataclass(frozen=True, slots=True)
class RefundStanding:
    """How a refund stands: paid or not, and by whom when it was handed back in cash ("" else); amount in fen."""

    amount_fen: int
    is_paid: bool
    cash_by: str


def standing_of(db: Connection | Session, order_no: str, numbers: Collection[str]) -> list[RefundStanding]:
    """Return how refunds of one order stand."""
    told = col(OrderEvent.key) == literal("refund:") + col(Refund.out_refund_no)
    query = (
        select(col(Refund.amount_fen), col(Refund.status), col(Refund.code), col(OrderEvent.actor))
        .outerjoin(OrderEvent, and_(col(OrderEvent.order_no) == col(Refund.order_no), told))
        .where(col(Refund.order_no) == order_no, col(Refund.out_refund_no).in_(numbers))
    )
    return [
        RefundStanding(
            amount_fen=row.amount_fen,
            is_paid=row.status == RefundKind.SUCCEEDED,
            cash_by=(row.actor or "system")
            if row.status == RefundKind.SUCCEEDED and row.code == COUNTER
            else "",
        )
        for row in db.execute(query)
    ]


def _need_of(kind: RefundKind, method: PayMethod) -> str:
    """Return what a person may be asked for about a refund that stands so; empty once it has come through."""
    if kind is RefundKind.SUCCEEDED:
        return ""
    if method.channel == "cash":
        return RETURN_CASH
    return NEED_OF_REFUND.get(kind, REFUND_SLOW)
