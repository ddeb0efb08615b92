"""Which rows a person may see, as conditions that every query of the console carries.

Cashiers and managers see their own station, operators and auditors all stations of their company (or their one
station, when they have one), admins everything. A person without the place that the role needs sees nothing.
"""

from typing import Any

from sqlalchemy import ColumnElement, false, select, true
from sqlmodel import col

from api.console.person import Person, Role
from db.tables.order import FuelOrder
from db.tables.station import Station


def stations_of(person: Person) -> ColumnElement[bool]:
    """Return the condition on `station` rows."""
    if person.role is Role.ADMIN:
        return true()
    if person.role in (Role.OPERATOR, Role.AUDITOR) and person.station_id is None:
        return col(Station.operator_id) == person.operator_id
    if person.station_id is None:
        return false()
    return col(Station.id) == person.station_id


def at_stations_of(person: Person, station_column: Any) -> ColumnElement[bool]:
    """Return the condition on rows that carry a station id."""
    if person.role is Role.ADMIN:
        return true()
    condition: ColumnElement[bool] = station_column.in_(select(col(Station.id)).where(stations_of(person)))
    return condition


def of_orders_of(person: Person, order_column: Any) -> ColumnElement[bool]:
    """Return the condition on rows that carry an order number (attempts, refunds, journals)."""
    if person.role is Role.ADMIN:
        return true()
    visible = select(col(FuelOrder.order_no)).where(at_stations_of(person, col(FuelOrder.station_id)))
    condition: ColumnElement[bool] = order_column.in_(visible)
    return condition
