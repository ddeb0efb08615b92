"""What a person is asked to decide about: the refunds behind a need, and the amount that stands in another column for
each reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session
from sqlmodel import col

from db.repositories.views import OrderRow
from db.tables.order import FuelOrder
from db.tables.payment import PaymentAttempt, Refund
from domain import ids
from domain.payment import NEED_OF_REFUND, REFUND_SLOW, RETURN_CASH, PayMethod, RefundKind

_MONEY_GOES_BACK = frozenset({*NEED_OF_REFUND.values(), REFUND_SLOW, RETURN_CASH})
"""Reasons that are about refunds which have not come through, held money among them."""


@dataclass(frozen=True, slots=True)
class AskedRefunds:
    """The refunds that a need is about, and their sum in fen: what a person counts out, or sends again."""

    numbers: tuple[str, ...] = ()
    fen: int = 0


def amounts_asked(db: Connection | Session, orders: Sequence[FuelOrder | OrderRow]) -> dict[str, int]:
    """Return the amount in fen by order number; an order that waits for something else than money is left out."""
    found = {o.order_no: o.shortfall_fen for o in orders if o.needs_person == "shortfall"}
    found |= {o.order_no: o.charge_fen for o in orders if o.needs_person == "unpaid_too_long"}
    returning = {o.order_no: o.needs_person for o in orders if o.needs_person in _MONEY_GOES_BACK}
    found |= {order_no: asked.fen for order_no, asked in refunds_asked(db, returning).items()}
    return {order_no: fen for order_no, fen in found.items() if fen > 0}


def refunds_asked(db: Connection | Session, needs: Mapping[str, str]) -> dict[str, AskedRefunds]:
    """Return what each order's need is about: only the refunds that stand so, each under its latest number.

    A sum of everything that is open would have cash handed out that a channel pays too.
    """
    found = dict.fromkeys(needs, AskedRefunds())
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
            so_far = found[row.order_no]
            found[row.order_no] = AskedRefunds(
                (*so_far.numbers, row.out_refund_no), so_far.fen + row.amount_fen
            )
    return found


def refunds_of_sum(db: Connection | Session, order_no: str, need: str, fen: int | None) -> tuple[str, ...]:
    """Return the refunds that a sum counted out settles; none when that is not, or no longer, what the need is about."""
    asked = refunds_asked(db, {order_no: need})[order_no]
    return asked.numbers if asked.fen == fen else ()


def _need_of(kind: RefundKind, method: PayMethod) -> str:
    """Return what a person may be asked for about a refund that stands so; empty once it has come through."""
    if kind is RefundKind.SUCCEEDED:
        return ""
    if method.channel == "cash":
        return RETURN_CASH
    return NEED_OF_REFUND.get(kind, REFUND_SLOW)
