"""How many pumps a driver holds without having paid is counted at every start.

Revision: 0007, after 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_WAITS = sa.text("status = 'awaiting_payment'")


def upgrade() -> None:
    """Index the few orders that wait for a driver's money."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index(
        "ix_fuel_order_awaiting", "fuel_order", ["driver_id"], unique=False, postgresql_where=_WAITS
    )


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_fuel_order_awaiting", table_name="fuel_order", postgresql_where=_WAITS)
