"""Tables of orders, payments, ledger, stations, gateway and identity; the ledger guards itself

Revision: 0001, after .
"""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql import sqltypes

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


_LEDGER_GUARDS = """
CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: a correction is a new journal', TG_TABLE_NAME;
END $$;
CREATE TRIGGER ledger_journal_append_only BEFORE UPDATE OR DELETE ON ledger_journal
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_entry_append_only BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER order_event_append_only BEFORE UPDATE OR DELETE ON order_event
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE FUNCTION ledger_check_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    difference bigint;
BEGIN
    SELECT coalesce(sum(CASE side WHEN 'D' THEN amount_fen ELSE -amount_fen END), 1) INTO difference
        FROM ledger_entry WHERE journal_id = NEW.id;
    IF difference <> 0 THEN
        RAISE EXCEPTION 'journal % does not balance: % fen', NEW.key, difference;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledger_journal_balances AFTER INSERT ON ledger_journal
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_check_balance();
"""
"""Journals and entries are only inserted, and a journal that does not balance never commits.

An entry added to an old journal is refused too: see `ledger_entry_same_transaction`.
"""

_LATE_ENTRY_GUARD = """
CREATE FUNCTION ledger_refuse_late_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM ledger_journal WHERE id = NEW.journal_id AND xmin::text = pg_current_xact_id()::xid::text
    ) THEN
        RAISE EXCEPTION 'entries are added with their journal, never later';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ledger_entry_same_transaction BEFORE INSERT ON ledger_entry
    FOR EACH ROW EXECUTE FUNCTION ledger_refuse_late_entry();
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "driver",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("openid_cipher", sa.Text(), nullable=False),
        sa.Column("openid_index", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("phone_cipher", sa.Text(), nullable=True),
        sa.Column("phone_index", sqltypes.AutoString(length=64), nullable=True),
        sa.Column("created_at", sqltypes.UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_driver")),
        sa.UniqueConstraint("openid_index", name=op.f("uq_driver_openid_index")),
    )
    op.create_index(op.f("ix_driver_phone_index"), "driver", ["phone_index"], unique=False)
    op.create_table(
        "gateway_command",
        sa.Column("command_id", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("station_code", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("order_no", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("kind", sqltypes.AutoString(length=16), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("expires_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("answered_at", sqltypes.UTCDateTime(), nullable=True),
        sa.Column("told_at", sqltypes.UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_gateway_command")),
    )
    op.create_index(
        "ix_gateway_command_open",
        "gateway_command",
        ["station_code", "created_at"],
        unique=False,
        postgresql_where=sa.text("result IS NULL"),
    )
    op.create_index(
        "ix_gateway_command_untold",
        "gateway_command",
        ["answered_at"],
        unique=False,
        postgresql_where=sa.text("result IS NOT NULL AND told_at IS NULL"),
    )
    op.create_table(
        "inbox",
        sa.Column("source", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("external_id", sqltypes.AutoString(length=160), nullable=False),
        sa.Column("kind", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("business_no", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("received_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("handled_at", sqltypes.UTCDateTime(), nullable=True),
        sa.Column("outcome", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("source", "external_id", name=op.f("pk_inbox")),
    )
    op.create_index(
        "ix_inbox_open",
        "inbox",
        ["source", "received_at"],
        unique=False,
        postgresql_where=sa.text("handled_at IS NULL"),
    )
    op.create_table(
        "operator",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("code", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("name", sqltypes.AutoString(length=128), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operator")),
        sa.UniqueConstraint("code", name=op.f("uq_operator_code")),
    )
    op.create_table(
        "point_state",
        sa.Column("station_code", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("fp", sa.Integer(), nullable=False),
        sa.Column("state", sqltypes.AutoString(length=24), nullable=False),
        sa.Column("nozzle", sa.Integer(), nullable=True),
        sa.Column("running_amount_fen", sa.BigInteger(), nullable=True),
        sa.Column("running_quantity_milli", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sqltypes.UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("station_code", "node", "fp", name=op.f("pk_point_state")),
    )
    op.create_table(
        "product",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("code", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("name", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("kind", sqltypes.AutoString(length=16), nullable=False),
        sa.Column("tax_rate_bp", sa.Integer(), nullable=False),
        sa.Column("platform_priced", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_product")),
        sa.UniqueConstraint("code", name=op.f("uq_product_code")),
    )
    op.create_table(
        "session",
        sa.Column("id", sqltypes.AutoString(length=40), nullable=False),
        sa.Column("family", sqltypes.AutoString(length=40), nullable=False),
        sa.Column("subject_kind", sqltypes.AutoString(length=16), nullable=False),
        sa.Column("subject_id", sa.Integer(), nullable=False),
        sa.Column("refresh_hash", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("created_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("expires_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("used_at", sqltypes.UTCDateTime(), nullable=True),
        sa.Column("revoked_at", sqltypes.UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session")),
        sa.UniqueConstraint("refresh_hash", name=op.f("uq_session_refresh_hash")),
    )
    op.create_index(op.f("ix_session_family"), "session", ["family"], unique=False)
    op.create_index("ix_session_subject", "session", ["subject_kind", "subject_id"], unique=False)
    op.create_table(
        "station_link",
        sa.Column("station_code", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("last_seen_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("boot_epoch", sa.BigInteger(), nullable=False),
        sa.Column("outbox_depth", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("station_code", name=op.f("pk_station_link")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("key", sqltypes.AutoString(length=96), nullable=False),
        sa.Column("kind", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("order_no", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("driver_id", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("due_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("sent_at", sqltypes.UTCDateTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("outcome", sqltypes.AutoString(length=128), nullable=False),
        sa.ForeignKeyConstraint(["driver_id"], ["driver.id"], name=op.f("fk_outbox_driver_id_driver")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("key", name=op.f("uq_outbox_key")),
    )
    op.create_index(
        "ix_outbox_due", "outbox", ["due_at"], unique=False, postgresql_where=sa.text("sent_at IS NULL")
    )
    op.create_table(
        "station",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("operator_id", sa.Integer(), nullable=False),
        sa.Column("code", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("name", sqltypes.AutoString(length=128), nullable=False),
        sa.Column("city", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("address", sqltypes.AutoString(length=256), nullable=False),
        sa.Column("latitude_e6", sa.Integer(), nullable=False),
        sa.Column("longitude_e6", sa.Integer(), nullable=False),
        sa.Column("gateway_shard", sa.Integer(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["operator.id"], name=op.f("fk_station_operator_id_operator")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_station")),
        sa.UniqueConstraint("code", name=op.f("uq_station_code")),
    )
    op.create_index(op.f("ix_station_operator_id"), "station", ["operator_id"], unique=False)
    op.create_table(
        "fuelling_point",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("node", sa.Integer(), nullable=False),
        sa.Column("fp", sa.Integer(), nullable=False),
        sa.Column("holder_order_no", sqltypes.AutoString(length=32), nullable=True),
        sa.Column("held_until", sqltypes.UTCDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["station_id"], ["station.id"], name=op.f("fk_fuelling_point_station_id_station")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fuelling_point")),
        sa.UniqueConstraint("station_id", "node", "fp", name=op.f("uq_fuelling_point_station_id_node_fp")),
    )
    op.create_table(
        "price",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("price_fen_per_unit", sa.Integer(), nullable=False),
        sa.Column("effective_at", sqltypes.UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name=op.f("fk_price_product_id_product")),
        sa.ForeignKeyConstraint(["station_id"], ["station.id"], name=op.f("fk_price_station_id_station")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price")),
        sa.UniqueConstraint(
            "station_id", "product_id", "version", name=op.f("uq_price_station_id_product_id_version")
        ),
    )
    op.create_index("ix_price_in_force", "price", ["station_id", "product_id", "effective_at"], unique=False)
    op.create_table(
        "staff",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("operator_id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=True),
        sa.Column("login", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("name", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("role", sqltypes.AutoString(length=20), nullable=False),
        sa.Column("password_hash", sqltypes.AutoString(length=256), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("failed_logins", sa.Integer(), nullable=False),
        sa.Column("locked_until", sqltypes.UTCDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_staff_operator_id_operator")),
        sa.ForeignKeyConstraint(["station_id"], ["station.id"], name=op.f("fk_staff_station_id_station")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff")),
        sa.UniqueConstraint("login", name=op.f("uq_staff_login")),
    )
    op.create_index(op.f("ix_staff_station_id"), "staff", ["station_id"], unique=False)
    op.create_table(
        "terminal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("kind", sqltypes.AutoString(length=16), nullable=False),
        sa.Column("name", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("key_hash", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("nozzle_numbers", sqltypes.AutoString(length=256), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("last_seen_at", sqltypes.UTCDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["station_id"], ["station.id"], name=op.f("fk_terminal_station_id_station")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_terminal")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_terminal_key_hash")),
    )
    op.create_index(op.f("ix_terminal_station_id"), "terminal", ["station_id"], unique=False)
    op.create_table(
        "nozzle",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("fuelling_point_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("device_nozzle", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("unit", sqltypes.AutoString(length=4), nullable=False),
        sa.Column("prepaid_allowed", sa.Boolean(), nullable=False),
        sa.Column("postpaid_allowed", sa.Boolean(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("code_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fuelling_point_id"],
            ["fuelling_point.id"],
            name=op.f("fk_nozzle_fuelling_point_id_fuelling_point"),
        ),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name=op.f("fk_nozzle_product_id_product")),
        sa.ForeignKeyConstraint(["station_id"], ["station.id"], name=op.f("fk_nozzle_station_id_station")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nozzle")),
        sa.UniqueConstraint(
            "fuelling_point_id", "device_nozzle", name=op.f("uq_nozzle_fuelling_point_id_device_nozzle")
        ),
        sa.UniqueConstraint("station_id", "number", name=op.f("uq_nozzle_station_id_number")),
    )
    op.create_table(
        "fuel_order",
        sa.Column("order_no", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("operator_id", sa.Integer(), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("fuelling_point_id", sa.Integer(), nullable=False),
        sa.Column("nozzle_id", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.Integer(), nullable=False),
        sa.Column("driver_id", sa.Integer(), nullable=True),
        sa.Column("cashier_id", sa.Integer(), nullable=True),
        sa.Column("terminal_id", sa.Integer(), nullable=True),
        sa.Column("mode", sqltypes.AutoString(length=16), nullable=False),
        sa.Column("status", sqltypes.AutoString(length=24), nullable=False),
        sa.Column("unit", sqltypes.AutoString(length=4), nullable=False),
        sa.Column("price_fen_per_unit", sa.Integer(), nullable=False),
        sa.Column("price_version", sa.Integer(), nullable=False),
        sa.Column("preset_fen", sa.BigInteger(), nullable=False),
        sa.Column("paid_fen", sa.BigInteger(), nullable=False),
        sa.Column("paid_by", sqltypes.AutoString(length=40), nullable=True),
        sa.Column("charge_fen", sa.BigInteger(), nullable=False),
        sa.Column("quantity_milli", sa.BigInteger(), nullable=False),
        sa.Column("refunded_fen", sa.BigInteger(), nullable=False),
        sa.Column("surplus_fen", sa.BigInteger(), nullable=False),
        sa.Column("shortfall_fen", sa.BigInteger(), nullable=False),
        sa.Column("needs_person", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("end_reason", sqltypes.AutoString(length=256), nullable=False),
        sa.Column("body_hash", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("created_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("updated_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("ended_at", sqltypes.UTCDateTime(), nullable=True),
        sa.CheckConstraint(
            "paid_fen >= 0 AND charge_fen >= 0 AND refunded_fen >= 0", name=op.f("ck_fuel_order_amounts")
        ),
        sa.CheckConstraint("refunded_fen <= paid_fen + surplus_fen", name=op.f("ck_fuel_order_refund_bound")),
        sa.ForeignKeyConstraint(["cashier_id"], ["staff.id"], name=op.f("fk_fuel_order_cashier_id_staff")),
        sa.ForeignKeyConstraint(["driver_id"], ["driver.id"], name=op.f("fk_fuel_order_driver_id_driver")),
        sa.ForeignKeyConstraint(
            ["fuelling_point_id"],
            ["fuelling_point.id"],
            name=op.f("fk_fuel_order_fuelling_point_id_fuelling_point"),
        ),
        sa.ForeignKeyConstraint(["nozzle_id"], ["nozzle.id"], name=op.f("fk_fuel_order_nozzle_id_nozzle")),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["operator.id"], name=op.f("fk_fuel_order_operator_id_operator")
        ),
        sa.ForeignKeyConstraint(
            ["product_id"], ["product.id"], name=op.f("fk_fuel_order_product_id_product")
        ),
        sa.ForeignKeyConstraint(
            ["station_id"], ["station.id"], name=op.f("fk_fuel_order_station_id_station")
        ),
        sa.ForeignKeyConstraint(
            ["terminal_id"], ["terminal.id"], name=op.f("fk_fuel_order_terminal_id_terminal")
        ),
        sa.PrimaryKeyConstraint("order_no", name=op.f("pk_fuel_order")),
    )
    op.create_index(
        "ix_fuel_order_attention",
        "fuel_order",
        ["station_id"],
        unique=False,
        postgresql_where=sa.text("needs_person <> ''"),
    )
    op.create_index("ix_fuel_order_driver", "fuel_order", ["driver_id", "created_at"], unique=False)
    op.create_index(
        "ix_fuel_order_station_status", "fuel_order", ["station_id", "status", "created_at"], unique=False
    )
    op.create_table(
        "ledger_journal",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("key", sqltypes.AutoString(length=96), nullable=False),
        sa.Column("body_hash", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("order_no", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("memo", sqltypes.AutoString(length=128), nullable=False),
        sa.Column("posted_at", sqltypes.UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_no"], ["fuel_order.order_no"], name=op.f("fk_ledger_journal_order_no_fuel_order")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_journal")),
        sa.UniqueConstraint("key", name=op.f("uq_ledger_journal_key")),
    )
    op.create_index(op.f("ix_ledger_journal_order_no"), "ledger_journal", ["order_no"], unique=False)
    op.create_table(
        "order_event",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("order_no", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("key", sqltypes.AutoString(length=96), nullable=False),
        sa.Column("at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("kind", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("status", sqltypes.AutoString(length=24), nullable=False),
        sa.Column("actor", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_no"], ["fuel_order.order_no"], name=op.f("fk_order_event_order_no_fuel_order")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_event")),
        sa.UniqueConstraint("order_no", "key", name=op.f("uq_order_event_order_no_key")),
    )
    op.create_index("ix_order_event_order", "order_event", ["order_no", "id"], unique=False)
    op.create_table(
        "payment_attempt",
        sa.Column("out_trade_no", sqltypes.AutoString(length=40), nullable=False),
        sa.Column("order_no", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("command_id", sqltypes.AutoString(length=80), nullable=False),
        sa.Column("method", sqltypes.AutoString(length=20), nullable=False),
        sa.Column("screen", sqltypes.AutoString(length=20), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("status", sqltypes.AutoString(length=16), nullable=False),
        sa.Column("request_body", sa.Text(), nullable=False),
        sa.Column("client_params", sa.Text(), nullable=False),
        sa.Column("transaction_id", sqltypes.AutoString(length=40), nullable=False),
        sa.Column("payer_fen", sa.BigInteger(), nullable=False),
        sa.Column("code", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("created_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("paid_at", sqltypes.UTCDateTime(), nullable=True),
        sa.CheckConstraint("amount_fen > 0", name=op.f("ck_payment_attempt_amount")),
        sa.ForeignKeyConstraint(
            ["order_no"], ["fuel_order.order_no"], name=op.f("fk_payment_attempt_order_no_fuel_order")
        ),
        sa.PrimaryKeyConstraint("out_trade_no", name=op.f("pk_payment_attempt")),
        sa.UniqueConstraint("order_no", "command_id", name=op.f("uq_payment_attempt_order_no_command_id")),
        sa.UniqueConstraint("order_no", "number", name=op.f("uq_payment_attempt_order_no_number")),
    )
    op.create_index("ix_payment_attempt_status", "payment_attempt", ["status", "created_at"], unique=False)
    op.create_table(
        "receipt",
        sa.Column("receipt_no", sqltypes.AutoString(length=40), nullable=False),
        sa.Column("order_no", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("issued_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_no"], ["fuel_order.order_no"], name=op.f("fk_receipt_order_no_fuel_order")
        ),
        sa.PrimaryKeyConstraint("receipt_no", name=op.f("pk_receipt")),
        sa.UniqueConstraint("order_no", name=op.f("uq_receipt_order_no")),
    )
    op.create_table(
        "sale",
        sa.Column("natural_key", sqltypes.AutoString(length=128), nullable=False),
        sa.Column("order_no", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("station_id", sa.Integer(), nullable=False),
        sa.Column("fuelling_point_id", sa.Integer(), nullable=False),
        sa.Column("nozzle_id", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("unit", sqltypes.AutoString(length=4), nullable=False),
        sa.Column("quantity_milli", sa.BigInteger(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("platform_fen", sa.BigInteger(), nullable=False),
        sa.Column("price_fen_per_unit", sa.Integer(), nullable=False),
        sa.Column("totaliser_before_milli", sa.BigInteger(), nullable=True),
        sa.Column("totaliser_after_milli", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sqltypes.AutoString(length=24), nullable=False),
        sa.Column("flag", sqltypes.AutoString(length=24), nullable=False),
        sa.Column("offline", sa.Boolean(), nullable=False),
        sa.Column("device_time", sqltypes.UTCDateTime(), nullable=True),
        sa.Column("recorded_at", sqltypes.UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fuelling_point_id"],
            ["fuelling_point.id"],
            name=op.f("fk_sale_fuelling_point_id_fuelling_point"),
        ),
        sa.ForeignKeyConstraint(["nozzle_id"], ["nozzle.id"], name=op.f("fk_sale_nozzle_id_nozzle")),
        sa.ForeignKeyConstraint(
            ["order_no"], ["fuel_order.order_no"], name=op.f("fk_sale_order_no_fuel_order")
        ),
        sa.ForeignKeyConstraint(["station_id"], ["station.id"], name=op.f("fk_sale_station_id_station")),
        sa.PrimaryKeyConstraint("natural_key", name=op.f("pk_sale")),
        sa.UniqueConstraint("order_no", name=op.f("uq_sale_order_no")),
    )
    op.create_index(
        "ix_sale_station_fp", "sale", ["station_id", "fuelling_point_id", "recorded_at"], unique=False
    )
    op.create_table(
        "ledger_entry",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("journal_id", sa.BigInteger(), nullable=False),
        sa.Column("account", sqltypes.AutoString(length=24), nullable=False),
        sa.Column("side", sqltypes.AutoString(length=1), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("side IN ('D', 'C')", name=op.f("ck_ledger_entry_side")),
        sa.CheckConstraint("amount_fen > 0", name=op.f("ck_ledger_entry_amount")),
        sa.ForeignKeyConstraint(
            ["journal_id"], ["ledger_journal.id"], name=op.f("fk_ledger_entry_journal_id_ledger_journal")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entry")),
    )
    op.create_index("ix_ledger_entry_account", "ledger_entry", ["account", "journal_id"], unique=False)
    op.create_index(op.f("ix_ledger_entry_journal_id"), "ledger_entry", ["journal_id"], unique=False)
    op.create_table(
        "refund",
        sa.Column("out_refund_no", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("out_trade_no", sqltypes.AutoString(length=40), nullable=False),
        sa.Column("order_no", sqltypes.AutoString(length=32), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("status", sqltypes.AutoString(length=16), nullable=False),
        sa.Column("reason", sqltypes.AutoString(length=80), nullable=False),
        sa.Column("refund_id", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("code", sqltypes.AutoString(length=64), nullable=False),
        sa.Column("created_at", sqltypes.UTCDateTime(), nullable=False),
        sa.Column("finished_at", sqltypes.UTCDateTime(), nullable=True),
        sa.CheckConstraint("amount_fen > 0", name=op.f("ck_refund_amount")),
        sa.ForeignKeyConstraint(
            ["order_no"], ["fuel_order.order_no"], name=op.f("fk_refund_order_no_fuel_order")
        ),
        sa.ForeignKeyConstraint(
            ["out_trade_no"],
            ["payment_attempt.out_trade_no"],
            name=op.f("fk_refund_out_trade_no_payment_attempt"),
        ),
        sa.PrimaryKeyConstraint("out_refund_no", name=op.f("pk_refund")),
    )
    op.create_index("ix_refund_order", "refund", ["order_no"], unique=False)
    op.create_index("ix_refund_status", "refund", ["status", "created_at"], unique=False)
    op.execute(_LEDGER_GUARDS)
    op.execute(_LATE_ENTRY_GUARD)


def downgrade() -> None:
    """Only for a development database: dropping a ledger is not a migration."""
    op.drop_index("ix_refund_status", table_name="refund")
    op.drop_index("ix_refund_order", table_name="refund")
    op.drop_table("refund")
    op.drop_index(op.f("ix_ledger_entry_journal_id"), table_name="ledger_entry")
    op.drop_index("ix_ledger_entry_account", table_name="ledger_entry")
    op.drop_table("ledger_entry")
    op.drop_index("ix_sale_station_fp", table_name="sale")
    op.drop_table("sale")
    op.drop_table("receipt")
    op.drop_index("ix_payment_attempt_status", table_name="payment_attempt")
    op.drop_table("payment_attempt")
    op.drop_index("ix_order_event_order", table_name="order_event")
    op.drop_table("order_event")
    op.drop_index(op.f("ix_ledger_journal_order_no"), table_name="ledger_journal")
    op.drop_table("ledger_journal")
    op.drop_index("ix_fuel_order_station_status", table_name="fuel_order")
    op.drop_index("ix_fuel_order_driver", table_name="fuel_order")
    op.drop_index(
        "ix_fuel_order_attention", table_name="fuel_order", postgresql_where=sa.text("needs_person <> ''")
    )
    op.drop_table("fuel_order")
    op.drop_table("nozzle")
    op.drop_index(op.f("ix_terminal_station_id"), table_name="terminal")
    op.drop_table("terminal")
    op.drop_index(op.f("ix_staff_station_id"), table_name="staff")
    op.drop_table("staff")
    op.drop_index("ix_price_in_force", table_name="price")
    op.drop_table("price")
    op.drop_table("fuelling_point")
    op.drop_index(op.f("ix_station_operator_id"), table_name="station")
    op.drop_table("station")
    op.drop_index("ix_outbox_due", table_name="outbox", postgresql_where=sa.text("sent_at IS NULL"))
    op.drop_table("outbox")
    op.drop_table("station_link")
    op.drop_index("ix_session_subject", table_name="session")
    op.drop_index(op.f("ix_session_family"), table_name="session")
    op.drop_table("session")
    op.drop_table("product")
    op.drop_table("point_state")
    op.drop_table("operator")
    op.drop_index("ix_inbox_open", table_name="inbox", postgresql_where=sa.text("handled_at IS NULL"))
    op.drop_table("inbox")
    op.drop_index(
        "ix_gateway_command_untold",
        table_name="gateway_command",
        postgresql_where=sa.text("result IS NOT NULL AND told_at IS NULL"),
    )
    op.drop_index(
        "ix_gateway_command_open", table_name="gateway_command", postgresql_where=sa.text("result IS NULL")
    )
    op.drop_table("gateway_command")
    op.drop_index(op.f("ix_driver_phone_index"), table_name="driver")
    op.drop_table("driver")
    op.execute("DROP FUNCTION ledger_refuse_change, ledger_check_balance, ledger_refuse_late_entry")
