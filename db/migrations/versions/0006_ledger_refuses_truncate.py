"""The ledger refuses TRUNCATE too, and an entry added after its journal was checked is checked again.

Revision: 0006, after 0005.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES = ("ledger_journal", "ledger_entry", "order_event")
_BALANCE = """
CREATE FUNCTION ledger_check_entry_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    difference bigint;
BEGIN
    SELECT sum(CASE side WHEN 'D' THEN amount_fen ELSE -amount_fen END) INTO difference
        FROM ledger_entry WHERE journal_id = NEW.journal_id;
    IF difference <> 0 THEN
        RAISE EXCEPTION 'journal % does not balance: % fen', NEW.journal_id, difference;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledger_entry_balances AFTER INSERT ON ledger_entry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_check_entry_balance();
"""
"""Whoever checks a journal early (SET CONSTRAINTS ... IMMEDIATE) cannot add to it unseen afterwards."""


def upgrade() -> None:
    """Add the guards."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in _TABLES:
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change()"
        )
    op.execute(_BALANCE)


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP TRIGGER ledger_entry_balances ON ledger_entry")
    op.execute("DROP FUNCTION ledger_check_entry_balance")
    for table in _TABLES:
        op.execute(f"DROP TRIGGER {table}_no_truncate ON {table}")
