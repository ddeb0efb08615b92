"""Who took the cash or scanned the code stands on the payment attempt.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = "fk_payment_attempt_cashier_id_staff"


def upgrade() -> None:
    """Add the column; payments of before have nobody."""
    op.add_column("payment_attempt", sa.Column("cashier_id", sa.Integer(), nullable=True))
    op.create_foreign_key(op.f(_KEY), "payment_attempt", "staff", ["cashier_id"], ["id"])


def downgrade() -> None:
    """Drop the column."""
    op.drop_constraint(op.f(_KEY), "payment_attempt", type_="foreignkey")
    op.drop_column("payment_attempt", "cashier_id")
