"""An announcement tells the order's status and version, so that only who waits for just that reads the row.

Revision: 0005, after 0004.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_FUNCTION = """
CREATE OR REPLACE FUNCTION fuel_order_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('order_changed', {payload});
    RETURN NULL;
END $$;
"""
_VERSION = "(extract(epoch from NEW.updated_at) * 1000000)::bigint"


def upgrade() -> None:
    """Announce number, status and version, a space between."""
    op.execute(_FUNCTION.format(payload=f"NEW.order_no || ' ' || NEW.status || ' ' || {_VERSION}"))


def downgrade() -> None:
    """Announce the number alone."""
    op.execute(_FUNCTION.format(payload="NEW.order_no"))
