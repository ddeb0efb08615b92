"""Payment attempts and refunds: one row per channel number, stored before the call that uses it."""

from pydantic import AwareDatetime
from sqlalchemy import CheckConstraint, Column, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from db.tables.base import Big


class PaymentAttempt(SQLModel, table=True):
    """One out_trade_no. `request_body` is the exact JSON that every retry sends, encrypted: it names the payer."""

    __tablename__ = "payment_attempt"
    __table_args__ = (
        UniqueConstraint("order_no", "command_id"),
        UniqueConstraint("order_no", "number"),
        Index("ix_payment_attempt_status", "status", "created_at"),
        CheckConstraint("amount_fen > 0", name="amount"),
    )
    out_trade_no: str = Field(primary_key=True, max_length=40)
    order_no: str = Field(foreign_key="fuel_order.order_no", max_length=32)
    number: int
    command_id: str = Field(max_length=80)
    """The request that asked for it; the same request never makes a second attempt."""
    method: str = Field(max_length=20)
    screen: str = Field(default="", max_length=20)
    cashier_id: int | None = Field(default=None, foreign_key="staff.id")
    """Who stood at the counter: took the cash or scanned the code."""
    driver_id: int | None = Field(default=None, foreign_key="driver.id")
    """Who asked to pay in the mini-program; the one whose money counts becomes the order's driver."""
    amount_fen: int = Field(sa_type=Big)
    status: str = Field(max_length=16)
    request_body: str = Field(sa_column=Column(Text, nullable=False))
    client_params: str = Field(default="{}", sa_column=Column(Text, nullable=False))
    transaction_id: str = Field(default="", max_length=40)
    payer_fen: int = Field(default=0, sa_type=Big)
    code: str = Field(default="", max_length=64)
    created_at: AwareDatetime
    paid_at: AwareDatetime | None = None


class Refund(SQLModel, table=True):
    """One out_refund_no: the rest, all of it, or a surplus. The same number until it is terminal."""

    __tablename__ = "refund"
    __table_args__ = (
        Index("ix_refund_status", "status", "created_at"),
        Index("ix_refund_order", "order_no"),
        CheckConstraint("amount_fen > 0", name="amount"),
    )
    out_refund_no: str = Field(primary_key=True, max_length=64)
    out_trade_no: str = Field(foreign_key="payment_attempt.out_trade_no", max_length=40)
    order_no: str = Field(foreign_key="fuel_order.order_no", max_length=32)
    amount_fen: int = Field(sa_type=Big)
    status: str = Field(max_length=16)
    reason: str = Field(max_length=80)
    refund_id: str = Field(default="", max_length=64)
    code: str = Field(default="", max_length=64)
    created_at: AwareDatetime
    finished_at: AwareDatetime | None = None
