"""Read queries about orders for people and screens, each one round trip, filtered by who asks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, or_, select, tuple_
from sqlalchemy.orm import aliased
from sqlmodel import col

from db.tables.order import FuelOrder, OrderEvent, Receipt
from db.tables.payment import PaymentAttempt
from db.tables.station import Nozzle, Operator, Product, Station
from domain.order import OrderStatus

_DRIVER, _STATION, _OPERATOR, _NOZZLES = "seen_driver", "seen_station", "seen_operator", "seen_nozzles"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderScope:
    """Whose orders somebody may see; all that is given must match, nothing given means everything (admin).

    A driver also sees every unpaid sale, since whoever stands at the nozzle may pay it and only money makes it
    his, and the sale that he asked to pay, even when somebody else's payment won.
    """

    driver_id: int | None = None
    station_id: int | None = None
    operator_id: int | None = None
    nozzle_numbers: frozenset[int] = frozenset()

    @property
    def values(self) -> dict[str, Any]:
        """Return what the parameters of `conditions` stand for."""
        given = {
            _DRIVER: self.driver_id,
            _STATION: self.station_id,
            _OPERATOR: self.operator_id,
            _NOZZLES: sorted(self.nozzle_numbers) or None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def conditions(self, *, claimable: bool = False) -> list[ColumnElement[bool]]:
        """Return the conditions for a query over `fuel_order` joined with `nozzle`, to be run with `values`."""
        return _conditions(frozenset(self.values), claimable=claimable)


def _conditions(given: frozenset[str], *, claimable: bool) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if _DRIVER in given:
        mine: ColumnElement[bool] = col(FuelOrder.driver_id) == bindparam(_DRIVER)
        unpaid = col(FuelOrder.status) == OrderStatus.UNPAID.value
        found.append(or_(mine, unpaid, _asked_to_pay()) if claimable else mine)
    if _STATION in given:
        found.append(col(FuelOrder.station_id) == bindparam(_STATION))
    if _OPERATOR in given:
        found.append(col(FuelOrder.operator_id) == bindparam(_OPERATOR))
    if _NOZZLES in given:
        found.append(col(Nozzle.number).in_(bindparam(_NOZZLES, expanding=True)))
    return found


def _asked_to_pay() -> ColumnElement[bool]:
    """Return whether the driver has a payment attempt on the order of the outer query."""
    attempts = aliased(PaymentAttempt)
    asked = select(col(attempts.out_trade_no)).where(
        col(attempts.order_no) == col(FuelOrder.order_no), col(attempts.driver_id) == bindparam(_DRIVER)
    )
    return asked.correlate(FuelOrder).exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """An order as screens show it; amounts in fen, quantity in thousandths of the unit."""

    order_no: str
    station_code: str
    station_name: str
    operator_code: str
    nozzle_no: int
    product_name: str
    driver_id: int | None
    mode: str
    status: str
    unit: str
    price_fen_per_unit: int
    price_version: int
    preset_fen: int
    paid_fen: int
    paid_by: str | None
    paid_method: str | None
    paid_screen: str | None
    charge_fen: int
    quantity_milli: int
    refunded_fen: int
    surplus_fen: int
    shortfall_fen: int
    needs_person: str
    end_reason: str
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One line of an order's story."""

    at: datetime
    kind: str
    status: str
    actor: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """A payment attempt as a screen needs it; `client_params` is JSON text."""

    out_trade_no: str
    order_no: str
    method: str
    amount_fen: int
    status: str
    client_params: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRow:
    """The voucher of an order; the body is JSON text as printed."""

    receipt_no: str
    order_no: str
    issued_at: datetime
    body: str


_ORDERS: Select[*tuple[Any, ...]] = (
    select(
        col(FuelOrder.order_no),
        col(Station.code).label("station_code"),
        col(Station.name).label("station_name"),
        col(Operator.code).label("operator_code"),
        col(Nozzle.number).label("nozzle_no"),
        col(Product.name).label("product_name"),
        col(FuelOrder.driver_id),
        col(FuelOrder.mode),
        col(FuelOrder.status),
        col(FuelOrder.unit),
        col(FuelOrder.price_fen_per_unit),
        col(FuelOrder.price_version),
        col(FuelOrder.preset_fen),
        col(FuelOrder.paid_fen),
        col(FuelOrder.paid_by),
        col(PaymentAttempt.method).label("paid_method"),
        col(PaymentAttempt.screen).label("paid_screen"),
        col(FuelOrder.charge_fen),
        col(FuelOrder.quantity_milli),
        col(FuelOrder.refunded_fen),
        col(FuelOrder.surplus_fen),
        col(FuelOrder.shortfall_fen),
        col(FuelOrder.needs_person),
        col(FuelOrder.end_reason),
        col(FuelOrder.created_at),
        col(FuelOrder.updated_at),
        col(FuelOrder.ended_at),
    )
    .select_from(FuelOrder)
    .join(Station, col(Station.id) == col(FuelOrder.station_id))
    .join(Operator, col(Operator.id) == col(FuelOrder.operator_id))
    .join(Nozzle, col(Nozzle.id) == col(FuelOrder.nozzle_id))
    .join(Product, col(Product.id) == col(FuelOrder.product_id))
    .outerjoin(PaymentAttempt, col(PaymentAttempt.out_trade_no) == col(FuelOrder.paid_by))
)


@lru_cache
def _order_visible_to(given: frozenset[str]) -> Select[*tuple[Any, ...]]:
    """Return the query of one order, one object for each kind of caller: a screen asks often.

    Building it costs more than running it, and an equal one that is not the same is adapted to it each time.
    """
    return _ORDERS.where(col(FuelOrder.order_no) == bindparam("wanted"), *_conditions(given, claimable=True))


def order_by_no(conn: Connection, order_no: str, scope: OrderScope) -> OrderRow | None:
    """Return one order that the scope may see."""
    values = scope.values
    statement = _order_visible_to(frozenset(values))
    row = conn.execute(statement, {"wanted": order_no, **values}).mappings().one_or_none()
    return OrderRow(**row) if row else None


def orders(
    conn: Connection,
    scope: OrderScope,
    *,
    status: str | None = None,
    station_code: str | None = None,
    before: tuple[datetime, str] | None = None,
    attention: bool = False,
    limit: int,
) -> list[OrderRow]:
    """Return orders, newest first; `before` is the (created_at, order_no) after which the page begins."""
    statement = _ORDERS.where(*scope.conditions())
    if status:
        statement = statement.where(col(FuelOrder.status) == status)
    if station_code:
        statement = statement.where(col(Station.code) == station_code)
    if attention:
        statement = statement.where(col(FuelOrder.needs_person) != "")
    if before:
        key = tuple_(col(FuelOrder.created_at), col(FuelOrder.order_no))
        statement = statement.where(key < tuple_(*before))
    newest_first = (col(FuelOrder.created_at).desc(), col(FuelOrder.order_no).desc())
    rows = conn.execute(statement.order_by(*newest_first).limit(limit), scope.values).mappings()
    return [OrderRow(**row) for row in rows]


def unpaid_at_nozzle(conn: Connection, station_code: str, nozzle_no: int) -> OrderRow | None:
    """Return the latest sale at a nozzle that waits for its money."""
    statement = (
        _ORDERS.where(
            col(Station.code) == station_code,
            col(Nozzle.number) == nozzle_no,
            col(FuelOrder.status) == OrderStatus.UNPAID.value,
        )
        .order_by(col(FuelOrder.created_at).desc())
        .limit(1)
    )
    row = conn.execute(statement).mappings().one_or_none()
    return OrderRow(**row) if row else None


def versions(conn: Connection, order_nos: Sequence[str]) -> dict[str, tuple[str, datetime]]:
    """Return each order's status and when it last changed: one cheap look-up for everybody who waits."""
    statement = select(col(FuelOrder.order_no), col(FuelOrder.status), col(FuelOrder.updated_at)).where(
        col(FuelOrder.order_no).in_(list(order_nos))
    )
    return {row.order_no: (row.status, row.updated_at) for row in conn.execute(statement)}


def events(conn: Connection, order_no: str) -> list[EventRow]:
    """Return an order's story from its beginning."""
    statement = (
        select(
            col(OrderEvent.at),
            col(OrderEvent.kind),
            col(OrderEvent.status),
            col(OrderEvent.actor),
            col(OrderEvent.detail),
        )
        .where(col(OrderEvent.order_no) == order_no)
        .order_by(col(OrderEvent.id))
    )
    return [EventRow(**row) for row in conn.execute(statement).mappings()]


def receipt_of(conn: Connection, order_no: str, scope: OrderScope) -> ReceiptRow | None:
    """Return the receipt of an order that the scope may see."""
    statement = (
        select(col(Receipt.receipt_no), col(Receipt.order_no), col(Receipt.issued_at), col(Receipt.body))
        .select_from(Receipt)
        .join(FuelOrder, col(FuelOrder.order_no) == col(Receipt.order_no))
        .join(Nozzle, col(Nozzle.id) == col(FuelOrder.nozzle_id))
        .where(col(Receipt.order_no) == order_no, *scope.conditions())
    )
    row = conn.execute(statement, scope.values).mappings().one_or_none()
    return ReceiptRow(**row) if row else None


_COUNT_ATTEMPTS = (
    select(func.count())
    .select_from(PaymentAttempt)
    .where(col(PaymentAttempt.order_no) == bindparam("order_no"))
)


def count_attempts(conn: Connection, order_no: str) -> int:
    """Return how many payments were asked for on an order."""
    return int(conn.execute(_COUNT_ATTEMPTS, {"order_no": order_no}).scalar_one())


def attempt(conn: Connection, out_trade_no: str, scope: OrderScope) -> AttemptRow | None:
    """Return a payment attempt of an order that the scope may see; a driver sees no other driver's."""
    asker = col(PaymentAttempt.driver_id)
    own = () if scope.driver_id is None else (or_(asker.is_(None), asker == scope.driver_id),)
    statement = (
        select(
            col(PaymentAttempt.out_trade_no),
            col(PaymentAttempt.order_no),
            col(PaymentAttempt.method),
            col(PaymentAttempt.amount_fen),
            col(PaymentAttempt.status),
            col(PaymentAttempt.client_params),
        )
        .select_from(PaymentAttempt)
        .join(FuelOrder, col(FuelOrder.order_no) == col(PaymentAttempt.order_no))
        .join(Nozzle, col(Nozzle.id) == col(FuelOrder.nozzle_id))
        .where(col(PaymentAttempt.out_trade_no) == out_trade_no, *own, *scope.conditions(claimable=True))
    )
    row = conn.execute(statement, scope.values).mappings().one_or_none()
    return AttemptRow(**row) if row else None
