"""The double-entry ledger: journals and entries are only ever inserted; triggers of the migration hold both rules."""

from pydantic import AwareDatetime
from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from db.tables.base import Big


class LedgerJournal(SQLModel, table=True):
    """A business event's postings. `key` is unique; `body_hash` binds it: same key with other entries is an error."""

    __tablename__ = "ledger_journal"
    id: int | None = Field(default=None, primary_key=True, sa_type=Big)
    key: str = Field(unique=True, max_length=96)
    body_hash: str = Field(max_length=64)
    order_no: str = Field(foreign_key="fuel_order.order_no", max_length=32, index=True)
    memo: str = Field(max_length=128)
    posted_at: AwareDatetime


class LedgerEntry(SQLModel, table=True):
    """One line; side D or C, amount in fen above zero."""

    __tablename__ = "ledger_entry"
    __table_args__ = (
        CheckConstraint("amount_fen > 0", name="amount"),
        CheckConstraint("side IN ('D', 'C')", name="side"),
        Index("ix_ledger_entry_account", "account", "journal_id"),
    )
    id: int | None = Field(default=None, primary_key=True, sa_type=Big)
    journal_id: int = Field(foreign_key="ledger_journal.id", sa_type=Big, index=True)
    account: str = Field(max_length=24)
    side: str = Field(max_length=1)
    amount_fen: int = Field(sa_type=Big)
