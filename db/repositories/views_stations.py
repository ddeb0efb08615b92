"""Read queries about stations and nozzles, each one round trip; prices are those in force at `now`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Numeric,
    Select,
    and_,
    bindparam,
    cast,
    column,
    exists,
    func,
    literal,
    select,
    table,
    true,
)
from sqlmodel import col

from db.tables.order import FuelOrder
from db.tables.station import FuellingPoint, Nozzle, Operator, Price, Product, Station

_link = table("station_link", column("station_code"), column("last_seen_at"))
_state = table("point_state", column("station_code"), column("node"), column("fp"), column("state"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StationRow:
    """A station; coordinates in millionths of a degree (GCJ-02); `last_seen_at` is its gateway's."""

    id: int
    operator_id: int
    code: str
    name: str
    city: str
    address: str
    latitude_e6: int
    longitude_e6: int
    is_open: bool
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferRow:
    """A product at a station with its price in force (fen per unit)."""

    station_id: int
    product_code: str
    product_name: str
    unit: str
    price_fen_per_unit: int
    price_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NozzleRow:
    """A nozzle with its product, price in force (0: none) and the state of its fuelling point."""

    nozzle_id: int
    number: int
    product_code: str
    product_name: str
    unit: str
    is_open: bool
    prepaid_allowed: bool
    postpaid_allowed: bool
    code_version: int
    price_fen_per_unit: int
    price_version: int
    state: str
    holder_order_no: str | None
    held_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFacts:
    """All that a start is checked against, in one look-up. `known_*` belong to the order of the same key."""

    operator_id: int
    operator_code: str
    station_id: int
    station_code: str
    station_open: bool
    last_seen_at: datetime | None
    nozzle_open: bool
    prepaid_allowed: bool
    unit: str
    product_name: str
    price_fen_per_unit: int
    price_version: int
    holder_order_no: str | None
    held_until: datetime | None
    known_order_no: str | None
    known_body_hash: str | None


def _price_in_force(now: Any) -> Any:
    return (
        select(col(Price.price_fen_per_unit), col(Price.version))
        .where(
            col(Price.station_id) == col(Nozzle.station_id),
            col(Price.product_id) == col(Nozzle.product_id),
            col(Price.effective_at) <= now,
        )
        .order_by(col(Price.effective_at).desc(), col(Price.version).desc())
        .limit(1)
        .lateral("in_force")
    )


def _stations() -> Select[*tuple[Any, ...]]:
    return (
        select(
            col(Station.id),
            col(Station.operator_id),
            col(Station.code),
            col(Station.name),
            col(Station.city),
            col(Station.address),
            col(Station.latitude_e6),
            col(Station.longitude_e6),
            col(Station.is_open),
            _link.c.last_seen_at,
        )
        .select_from(Station)
        .outerjoin(_link, _link.c.station_code == col(Station.code))
    )


def stations(
    conn: Connection,
    *,
    city: str | None,
    product_code: str | None,
    near_e6: tuple[int, int] | None,
    cosine_milli: int,
    limit: int,
) -> list[StationRow]:
    """Return stations, nearest first when a place is given, else by code.

    `near_e6` is (latitude, longitude) in millionths of a degree; `cosine_milli` is that latitude's cosine
    in thousandths (a degree of longitude shrinks by it), so that SQL needs no trigonometry.
    """
    statement = _stations()
    if city:
        statement = statement.where(col(Station.city) == city)
    if product_code:
        offered = exists().where(
            col(Nozzle.station_id) == col(Station.id),
            col(Nozzle.product_id) == col(Product.id),
            col(Product.code) == product_code,
        )
        statement = statement.where(offered)
    if near_e6 is None:
        statement = statement.order_by(col(Station.code))
    else:
        north = cast(col(Station.latitude_e6) - literal(near_e6[0]), Numeric) * 1000
        east = cast(col(Station.longitude_e6) - literal(near_e6[1]), Numeric) * cosine_milli
        statement = statement.order_by(north * north + east * east, col(Station.code))
    return [StationRow(**row) for row in conn.execute(statement.limit(limit)).mappings()]


def station_by_code(conn: Connection, code: str) -> StationRow | None:
    """Return one station."""
    row = conn.execute(_stations().where(col(Station.code) == code)).mappings().one_or_none()
    return StationRow(**row) if row else None


def offers(conn: Connection, station_ids: Sequence[int], *, now: datetime) -> list[OfferRow]:
    """Return what the stations sell and for how much: one row a station, product and unit."""
    price = _price_in_force(now)
    statement = (
        select(
            col(Nozzle.station_id),
            col(Product.code).label("product_code"),
            col(Product.name).label("product_name"),
            col(Nozzle.unit),
            price.c.price_fen_per_unit,
            price.c.version.label("price_version"),
        )
        .select_from(Nozzle)
        .join(Product, col(Product.id) == col(Nozzle.product_id))
        .join(price, true())
        .where(col(Nozzle.station_id).in_(list(station_ids)))
        .distinct()
        .order_by(col(Nozzle.station_id), col(Product.code))
    )
    return [OfferRow(**row) for row in conn.execute(statement).mappings()]


def nozzles(conn: Connection, station_id: int, *, now: datetime) -> list[NozzleRow]:
    """Return the nozzles of a station by number."""
    price = _price_in_force(now)
    statement = (
        select(
            col(Nozzle.id).label("nozzle_id"),
            col(Nozzle.number),
            col(Product.code).label("product_code"),
            col(Product.name).label("product_name"),
            col(Nozzle.unit),
            col(Nozzle.is_open),
            col(Nozzle.prepaid_allowed),
            col(Nozzle.postpaid_allowed),
            col(Nozzle.code_version),
            price.c.price_fen_per_unit,
            price.c.version.label("price_version"),
            _state.c.state,
            col(FuellingPoint.holder_order_no),
            col(FuellingPoint.held_until),
        )
        .select_from(Nozzle)
        .join(Station, col(Station.id) == col(Nozzle.station_id))
        .join(Product, col(Product.id) == col(Nozzle.product_id))
        .join(FuellingPoint, col(FuellingPoint.id) == col(Nozzle.fuelling_point_id))
        .outerjoin(price, true())
        .outerjoin(
            _state,
            and_(
                _state.c.station_code == col(Station.code),
                _state.c.node == col(FuellingPoint.node),
                _state.c.fp == col(FuellingPoint.fp),
            ),
        )
        .where(col(Nozzle.station_id) == station_id)
        .order_by(col(Nozzle.number))
    )
    return [_nozzle(dict(row)) for row in conn.execute(statement).mappings()]


def _nozzle(row: dict[str, Any]) -> NozzleRow:
    row["price_fen_per_unit"] = row["price_fen_per_unit"] or 0
    row["price_version"] = row["price_version"] or 0
    row["state"] = row["state"] or ""
    return NozzleRow(**row)


_in_force = _price_in_force(bindparam("at"))
_START_FACTS: Select[*tuple[Any, ...]] = (
    select(
        col(Station.operator_id),
        col(Operator.code).label("operator_code"),
        col(Station.id).label("station_id"),
        col(Station.code).label("station_code"),
        col(Station.is_open).label("station_open"),
        _link.c.last_seen_at,
        col(Nozzle.is_open).label("nozzle_open"),
        col(Nozzle.prepaid_allowed),
        col(Nozzle.unit),
        col(Product.name).label("product_name"),
        func.coalesce(_in_force.c.price_fen_per_unit, 0).label("price_fen_per_unit"),
        func.coalesce(_in_force.c.version, 0).label("price_version"),
        col(FuellingPoint.holder_order_no),
        col(FuellingPoint.held_until),
        col(FuelOrder.order_no).label("known_order_no"),
        col(FuelOrder.body_hash).label("known_body_hash"),
    )
    .select_from(Nozzle)
    .join(Station, col(Station.id) == col(Nozzle.station_id))
    .join(Operator, col(Operator.id) == col(Station.operator_id))
    .join(Product, col(Product.id) == col(Nozzle.product_id))
    .join(FuellingPoint, col(FuellingPoint.id) == col(Nozzle.fuelling_point_id))
    .outerjoin(_in_force, true())
    .outerjoin(_link, _link.c.station_code == col(Station.code))
    .outerjoin(FuelOrder, col(FuelOrder.order_no) == bindparam("order_no"))
    .where(col(Station.code) == bindparam("station"), col(Nozzle.number) == bindparam("nozzle"))
)
"""Built once: this is the hot path, and building costs more than running."""


def start_facts(
    conn: Connection, station_code: str, nozzle_no: int, *, order_no: str, now: datetime
) -> StartFacts | None:
    """Return everything a start is checked against, None when there is no such nozzle.

    An empty `order_no` is a quote's: no order has it.
    """
    keys = {"station": station_code, "nozzle": nozzle_no, "order_no": order_no, "at": now}
    row = conn.execute(_START_FACTS, keys).mappings().one_or_none()
    return StartFacts(**row) if row else None
