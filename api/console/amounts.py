"""The amount that a person has to decide about, which stands in another column for each reason."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from db.tables.order import FuelOrder
from db.tables.payment import PaymentAttempt, Refund
from domain import ids
from domain.payment import NEED_OF_REFUND, REFUND_SLOW, RETURN_CASH, PayMethod, RefundKind

_MONEY_GOES_BACK = frozenset({*NEED_OF_REFUND.values(), REFUND_SLOW, RETURN_CASH})
"""Reasons that are about refunds which have not come through, held money among them."""


def amounts_in_question(db: Session, orders: Sequence[FuelOrder]) -> dict[str, int]:
    """Return the amount in fen by order number; an order that waits for something else than money is left out."""
    found = {o.order_no: o.shortfall_fen for o in orders if o.needs_person == "shortfall"}
    found |= {o.order_no: o.charge_fen for o in orders if o.needs_person == "unpaid_too_long"}
    returning = {o.order_no: o.needs_person for o in orders if o.needs_person in _MONEY_GOES_BACK}
    found |= _amounts_going_back(db, returning)
    return {order_no: fen for order_no, fen in found.items() if fen > 0}


def _amounts_going_back(db: Session, needs: dict[str, str]) -> dict[str, int]:
    """Return what each order's need is about: only the refunds that stand so, each under its latest number.

    A sum of everything that is open would have cash handed out that a channel pays too.
    """
    if not needs:
        return {}
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
    )
    rows = db.execute(query).all()
    latest = ids.latest_refund_nos(row.out_refund_no for row in rows)
    found = dict.fromkeys(needs, 0)
    for row in rows:
        stands = _need_of(RefundKind(row.status), PayMethod(row.method))
        if row.out_refund_no in latest and needs[row.order_no] == stands:
            found[row.order_no] += row.amount_fen
    return found


def _need_of(kind: RefundKind, method: PayMethod) -> str:
    """Return what a person may be asked for about a refund that stands so; empty once it has come through."""
    if kind is RefundKind.SUCCEEDED:
        return ""
    if method.channel == "cash":
        return RETURN_CASH
    return NEED_OF_REFUND.get(kind, REFUND_SLOW)
