"""Operators, stations, fuelling points, nozzles, products and their versioned prices."""

from pydantic import AwareDatetime
from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from db.tables import base as base


class Operator(SQLModel, table=True):
    """A company that runs stations; every station belongs to one."""

    __tablename__ = "operator"
    id: int | None = Field(default=None, primary_key=True)
    code: str = Field(unique=True, max_length=32)
    name: str = Field(max_length=128)


class Station(SQLModel, table=True):
    """A refuelling station. Coordinates are GCJ-02 in millionths of a degree."""

    __tablename__ = "station"
    id: int | None = Field(default=None, primary_key=True)
    operator_id: int = Field(foreign_key="operator.id", index=True)
    code: str = Field(unique=True, max_length=32)
    name: str = Field(max_length=128)
    city: str = Field(default="", max_length=64)
    address: str = Field(default="", max_length=256)
    latitude_e6: int = Field(default=0)
    longitude_e6: int = Field(default=0)
    gateway_shard: int = Field(default=0)
    is_open: bool = Field(default=True)


class Product(SQLModel, table=True):
    """What is sold; the tax rate is in basis points (1300 = 13 %)."""

    __tablename__ = "product"
    id: int | None = Field(default=None, primary_key=True)
    code: str = Field(unique=True, max_length=32)
    name: str = Field(max_length=64)
    kind: str = Field(max_length=16)
    """`oil`, `gas` or `power`: which income account and which invoice rules."""
    tax_rate_bp: int
    platform_priced: bool = Field(default=False)
    """The device has no price of its own (chargers): the platform computes the amount."""


class Price(SQLModel, table=True):
    """A price version; the one in force is the latest with effective_at <= now. Never edited."""

    __tablename__ = "price"
    __table_args__ = (
        UniqueConstraint("station_id", "product_id", "version"),
        Index("ix_price_in_force", "station_id", "product_id", "effective_at"),
    )
    id: int | None = Field(default=None, primary_key=True)
    station_id: int = Field(foreign_key="station.id")
    product_id: int = Field(foreign_key="product.id")
    version: int
    price_fen_per_unit: int
    effective_at: AwareDatetime


class FuellingPoint(SQLModel, table=True):
    """One place where one fill can run at a time; several nozzles hang on it. `holder` keeps others away."""

    __tablename__ = "fuelling_point"
    __table_args__ = (UniqueConstraint("station_id", "node", "fp"),)
    id: int | None = Field(default=None, primary_key=True)
    station_id: int = Field(foreign_key="station.id")
    node: int
    fp: int
    holder_order_no: str | None = Field(default=None, max_length=32)
    held_until: AwareDatetime | None = None
    """None with a holder: held until the order lets go (paid or fuelling)."""


class Nozzle(SQLModel, table=True):
    """A nozzle as drivers know it: its number at the station, its product and unit."""

    __tablename__ = "nozzle"
    __table_args__ = (
        UniqueConstraint("station_id", "number"),
        UniqueConstraint("fuelling_point_id", "device_nozzle"),
    )
    id: int | None = Field(default=None, primary_key=True)
    station_id: int = Field(foreign_key="station.id")
    fuelling_point_id: int = Field(foreign_key="fuelling_point.id")
    number: int
    device_nozzle: int
    """The logical nozzle number on its fuelling point (1-8), as the dispenser counts."""
    product_id: int = Field(foreign_key="product.id")
    unit: str = Field(max_length=4)
    prepaid_allowed: bool = Field(default=True)
    postpaid_allowed: bool = Field(default=False)
    is_open: bool = Field(default=True)
    code_version: int = Field(default=1)
    """Version of the QR label; an older label is refused."""
