"""Every change of an order is announced on a channel, so that waiting screens need not ask again and again.

Revision: 0003, after 0002.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ANNOUNCE = """
CREATE FUNCTION fuel_order_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('order_changed', NEW.order_no);
    RETURN NULL;
END $$;
CREATE TRIGGER fuel_order_announced AFTER INSERT OR UPDATE ON fuel_order
    FOR EACH ROW EXECUTE FUNCTION fuel_order_announce();
"""


def upgrade() -> None:
    """Announce changes at commit; nothing is sent for a transaction that rolls back."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(_ANNOUNCE)


def downgrade() -> None:
    """Stop announcing."""
    op.execute("DROP TRIGGER fuel_order_announced ON fuel_order")
    op.execute("DROP FUNCTION fuel_order_announce")
