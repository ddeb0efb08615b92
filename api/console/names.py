"""Looks up the names behind ids for all rows of a page: one query a table, never one a row."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from db.tables.identity import Staff
from db.tables.station import FuellingPoint, Nozzle, Operator, Product, Station

Names = dict[str, dict[int, str]]


def _ids(rows: Iterable[Any], attribute: str) -> set[int]:
    return {value for row in rows if (value := getattr(row, attribute, None)) is not None}


def name_in(names: Names, table: str, number: int | None) -> str:
    """Return the name behind an id, the number when it was not looked up; empty without an id."""
    return names.get(table, {}).get(number, f"#{number}") if number is not None else ""


def look_up(db: Session, rows: Sequence[Any]) -> Names:
    """Return names by table and id for every id that the rows carry."""
    found: Names = {}
    for table, attribute, key, words in (
        ("station", "station_id", col(Station.id), col(Station.name)),
        ("operator", "operator_id", col(Operator.id), col(Operator.name)),
        ("product", "product_id", col(Product.id), col(Product.name)),
        ("staff", "cashier_id", col(Staff.id), col(Staff.name)),
    ):
        if ids := _ids(rows, attribute):
            found[table] = {row[0] or 0: row[1] for row in db.execute(select(key, words).where(key.in_(ids)))}
    if ids := _ids(rows, "nozzle_id"):
        nozzles = select(col(Nozzle.id), col(Nozzle.number)).where(col(Nozzle.id).in_(ids))
        found["nozzle"] = {row[0] or 0: f"{row[1]} 号枪" for row in db.execute(nozzles)}
    if ids := _ids(rows, "fuelling_point_id"):
        points = select(FuellingPoint).where(col(FuellingPoint.id).in_(ids))
        found["point"] = {p.id or 0: f"{p.node}-{p.fp}" for p in db.scalars(points)}
    return found
