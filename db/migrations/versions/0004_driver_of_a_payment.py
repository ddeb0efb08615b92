"""Who asked to pay in the mini-program stands on the payment attempt; the payer becomes the order's driver.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEY = "fk_payment_attempt_driver_id_driver"


def upgrade() -> None:
    """Add the column; payments of before have nobody."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("payment_attempt", sa.Column("driver_id", sa.Integer(), nullable=True))
    op.create_foreign_key(op.f(_KEY), "payment_attempt", "driver", ["driver_id"], ["id"])


def downgrade() -> None:
    """Drop the column."""
    op.drop_constraint(op.f(_KEY), "payment_attempt", type_="foreignkey")
    op.drop_column("payment_attempt", "driver_id")
