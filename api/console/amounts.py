"""The amount that a person has to decide about, which stands in another column for each reason."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlmodel import col

from db.tables.order import FuelOrder
from db.tables.payment import Refund
from domain.payment import RefundKind

_MONEY_GOES_BACK = frozenset(
    {
        "return_cash",
        "refund_abnormal",
        "refund_closed",
        "refund_rejected",
        "refund_balance_short",
        "refund_slow",
        "payment_amount_mismatch",
    }
)
"""Reasons that are about refunds which have not come through, held money among them."""


def amounts_in_question(db: Session, orders: Sequence[FuelOrder]) -> dict[str, int]:
    """Return the amount in fen by order number; an order that waits for something else than money is left out."""
    found = {o.order_no: o.shortfall_fen for o in orders if o.needs_person == "shortfall"}
    found |= {o.order_no: o.charge_fen for o in orders if o.needs_person == "unpaid_too_long"}
    returning = [o.order_no for o in orders if o.needs_person in _MONEY_GOES_BACK]
    if returning:
        query = (
            select(col(Refund.order_no), func.sum(col(Refund.amount_fen)))
            .where(col(Refund.order_no).in_(returning), col(Refund.status) != RefundKind.SUCCEEDED.value)
            .group_by(col(Refund.order_no))
        )
        found |= {row[0]: int(row[1]) for row in db.execute(query)}
    return {order_no: fen for order_no, fen in found.items() if fen > 0}
