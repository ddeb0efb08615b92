"""Orders, their history, the sale that the dispenser reported, and the receipt."""

from pydantic import AwareDatetime
from sqlalchemy import CheckConstraint, Column, Index, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from db.tables.base import Big


class FuelOrder(SQLModel, table=True):
    """One order. Amounts in fen, quantity in thousandths of the unit; `status` is the projection of `order_event`."""

    __tablename__ = "fuel_order"
    __table_args__ = (
        Index("ix_fuel_order_station_status", "station_id", "status", "created_at"),
        Index("ix_fuel_order_driver", "driver_id", "created_at"),
        Index("ix_fuel_order_awaiting", "driver_id", postgresql_where=text("status = 'awaiting_payment'")),
        Index("ix_fuel_order_attention", "station_id", postgresql_where=text("needs_person <> ''")),
        CheckConstraint("paid_fen >= 0 AND charge_fen >= 0 AND refunded_fen >= 0", name="amounts"),
        CheckConstraint("refunded_fen <= paid_fen + surplus_fen", name="refund_bound"),
    )
    order_no: str = Field(primary_key=True, max_length=32)
    operator_id: int = Field(foreign_key="operator.id")
    station_id: int = Field(foreign_key="station.id")
    fuelling_point_id: int = Field(foreign_key="fuelling_point.id")
    nozzle_id: int = Field(foreign_key="nozzle.id")
    product_id: int = Field(foreign_key="product.id")
    driver_id: int | None = Field(default=None, foreign_key="driver.id")
    cashier_id: int | None = Field(default=None, foreign_key="staff.id")
    terminal_id: int | None = Field(default=None, foreign_key="terminal.id")
    mode: str = Field(max_length=16)
    status: str = Field(max_length=24)
    unit: str = Field(max_length=4)
    price_fen_per_unit: int
    price_version: int = 0
    preset_fen: int = Field(default=0, sa_type=Big)
    paid_fen: int = Field(default=0, sa_type=Big)
    paid_by: str | None = Field(default=None, max_length=40)
    """The out_trade_no whose money pays this order."""
    charge_fen: int = Field(default=0, sa_type=Big)
    quantity_milli: int = Field(default=0, sa_type=Big)
    refunded_fen: int = Field(default=0, sa_type=Big)
    surplus_fen: int = Field(default=0, sa_type=Big)
    """Money that arrived beyond the order (second or late payments); it goes back whole."""
    shortfall_fen: int = Field(default=0, sa_type=Big)
    needs_person: str = Field(default="", max_length=64)
    """Why a person has to look; empty when nobody has to."""
    end_reason: str = Field(default="", max_length=256)
    body_hash: str = Field(default="", max_length=64)
    created_at: AwareDatetime
    updated_at: AwareDatetime
    ended_at: AwareDatetime | None = None


class OrderEvent(SQLModel, table=True):
    """Append-only history of an order: who, what, from where to where."""

    __tablename__ = "order_event"
    __table_args__ = (UniqueConstraint("order_no", "key"), Index("ix_order_event_order", "order_no", "id"))
    id: int | None = Field(default=None, primary_key=True, sa_type=Big)
    order_no: str = Field(foreign_key="fuel_order.order_no", max_length=32)
    key: str = Field(max_length=96)
    """Derived from the step, so that a repeated step adds nothing."""
    at: AwareDatetime
    kind: str = Field(max_length=32)
    status: str = Field(max_length=24)
    actor: str = Field(default="system", max_length=64)
    detail: str = Field(default="", sa_column=Column(Text, nullable=False))


class Sale(SQLModel, table=True):
    """A finished fill as the dispenser reported it; the natural key makes it land once."""

    __tablename__ = "sale"
    __table_args__ = (
        Index("ix_sale_station_fp", "station_id", "fuelling_point_id", "recorded_at"),
        UniqueConstraint("order_no"),
    )
    natural_key: str = Field(primary_key=True, max_length=128)
    order_no: str = Field(foreign_key="fuel_order.order_no", max_length=32)
    station_id: int = Field(foreign_key="station.id")
    fuelling_point_id: int = Field(foreign_key="fuelling_point.id")
    nozzle_id: int = Field(foreign_key="nozzle.id")
    sequence: int
    unit: str = Field(max_length=4)
    quantity_milli: int = Field(sa_type=Big)
    amount_fen: int = Field(sa_type=Big)
    platform_fen: int = Field(sa_type=Big)
    """Price x quantity as the platform computes it (003-K1)."""
    price_fen_per_unit: int
    totaliser_before_milli: int | None = Field(default=None, sa_type=Big)
    totaliser_after_milli: int | None = Field(default=None, sa_type=Big)
    end_reason: str = Field(max_length=24)
    flag: str = Field(default="", max_length=24)
    offline: bool = False
    device_time: AwareDatetime | None = None
    recorded_at: AwareDatetime


class Receipt(SQLModel, table=True):
    """The electronic voucher of a completed order: exactly one (001-4). The body is JSON as printed."""

    __tablename__ = "receipt"
    receipt_no: str = Field(primary_key=True, max_length=40)
    order_no: str = Field(foreign_key="fuel_order.order_no", unique=True, max_length=32)
    issued_at: AwareDatetime
    body: str = Field(sa_column=Column(Text, nullable=False))
