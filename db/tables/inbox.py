"""The inbox (what the outside told us, stored before it is handled) and the outbox (what we owe the outside)."""

from pydantic import AwareDatetime
from sqlalchemy import Column, Index, Text, text
from sqlmodel import Field, SQLModel

from db.tables.base import Big


class InboxMessage(SQLModel, table=True):
    """An inbound message; (source, external_id) makes it arrive once. Handling may run twice."""

    __tablename__ = "inbox"
    __table_args__ = (
        Index("ix_inbox_open", "source", "received_at", postgresql_where=text("handled_at IS NULL")),
    )
    source: str = Field(primary_key=True, max_length=64)
    """`wechat` or `station:{code}`."""
    external_id: str = Field(primary_key=True, max_length=160)
    kind: str = Field(max_length=32)
    business_no: str = Field(default="", max_length=64)
    body: str = Field(sa_column=Column(Text, nullable=False))
    received_at: AwareDatetime
    handled_at: AwareDatetime | None = None
    outcome: str = Field(default="", max_length=64)
    attempts: int = 0


class OutboxMessage(SQLModel, table=True):
    """A message for a customer, written in the transaction that caused it and sent later, once per key."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_due", "due_at", postgresql_where=text("sent_at IS NULL")),)
    id: int | None = Field(default=None, primary_key=True, sa_type=Big)
    key: str = Field(unique=True, max_length=96)
    kind: str = Field(max_length=32)
    order_no: str = Field(default="", max_length=32)
    driver_id: int | None = Field(default=None, foreign_key="driver.id")
    body: str = Field(sa_column=Column(Text, nullable=False))
    created_at: AwareDatetime
    due_at: AwareDatetime
    sent_at: AwareDatetime | None = None
    attempts: int = 0
    outcome: str = Field(default="", max_length=128)
