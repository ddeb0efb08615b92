"""SQL of stations as fills need it: one quote look-up with the price in force, and the fuelling point's holder."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, or_, select

from activities.records import NozzleQuote
from db.repositories.columns import table_of
from db.tables.gateway import StationLink
from db.tables.station import FuellingPoint, Nozzle, Operator, Price, Product, Station

_station, _operator, _product = table_of(Station), table_of(Operator), table_of(Product)
_nozzle, _point, _price, _link = (
    table_of(Nozzle),
    table_of(FuellingPoint),
    table_of(Price),
    table_of(StationLink),
)

_in_force = (
    select(_price.c.price_fen_per_unit, _price.c.version)
    .where(
        _price.c.station_id == _nozzle.c.station_id,
        _price.c.product_id == _nozzle.c.product_id,
        _price.c.effective_at <= bindparam("at"),
    )
    .order_by(_price.c.effective_at.desc(), _price.c.version.desc())
    .limit(1)
    .lateral("in_force")
)


def _quote(*where: Any) -> Select[Any]:
    return (
        select(
            _operator.c.id.label("operator_id"),
            _operator.c.code.label("operator_code"),
            _station.c.id.label("station_id"),
            _station.c.code.label("station_code"),
            _station.c.name.label("station_name"),
            _station.c.is_open.label("station_open"),
            _station.c.gateway_shard,
            _link.c.last_seen_at.label("station_seen_at"),
            _point.c.id.label("fuelling_point_id"),
            _point.c.node,
            _point.c.fp,
            _nozzle.c.id.label("nozzle_id"),
            _nozzle.c.number.label("nozzle_no"),
            _nozzle.c.device_nozzle,
            _nozzle.c.is_open.label("nozzle_open"),
            _nozzle.c.prepaid_allowed,
            _nozzle.c.unit,
            _product.c.id.label("product_id"),
            _product.c.name.label("product_name"),
            _product.c.kind.label("product_kind"),
            _product.c.tax_rate_bp,
            _product.c.platform_priced,
            _in_force.c.price_fen_per_unit,
            _in_force.c.version.label("price_version"),
        )
        .select_from(_nozzle)
        .join(_point, _point.c.id == _nozzle.c.fuelling_point_id)
        .join(_station, _station.c.id == _nozzle.c.station_id)
        .join(_operator, _operator.c.id == _station.c.operator_id)
        .join(_product, _product.c.id == _nozzle.c.product_id)
        .join(_in_force, bindparam("yes", True))
        .outerjoin(_link, _link.c.station_code == _station.c.code)
        .where(*where)
    )


_BY_NUMBER = _quote(_station.c.code == bindparam("station"), _nozzle.c.number == bindparam("number"))
_BY_DEVICE = _quote(
    _station.c.code == bindparam("station"),
    _point.c.node == bindparam("node"),
    _point.c.fp == bindparam("fp"),
    _nozzle.c.device_nozzle == bindparam("device_nozzle"),
)


_at_place = (
    _price.c.station_id == bindparam("station"),
    _price.c.product_id == bindparam("product"),
)
_IN_FORCE_AT_FIRST = (
    select(func.max(_price.c.effective_at))
    .where(*_at_place, _price.c.effective_at <= bindparam("since"))
    .scalar_subquery()
)
_VERSION_OF_PRICE = (
    select(_price.c.version)
    .where(
        *_at_place,
        _price.c.price_fen_per_unit == bindparam("price"),
        _price.c.effective_at <= bindparam("until"),
        _price.c.effective_at >= func.coalesce(_IN_FORCE_AT_FIRST, bindparam("since")),
    )
    .order_by(_price.c.effective_at.desc(), _price.c.version.desc())
    .limit(1)
)


_HOLD = (
    _point.update()
    .where(
        _point.c.id == bindparam("point"),
        or_(
            _point.c.holder_order_no.is_(None),
            _point.c.holder_order_no == bindparam("order"),
            _point.c.held_until < bindparam("now"),
        ),
    )
    .values(holder_order_no=bindparam("order"), held_until=bindparam("until"))
)
_RELEASE = (
    _point.update()
    .where(_point.c.id == bindparam("point"), _point.c.holder_order_no == bindparam("order"))
    .values(holder_order_no=None, held_until=None)
)


class StationRepository:
    """Stations over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def quote(self, station_code: str, nozzle_no: int, at: datetime) -> NozzleQuote | None:
        """Return the nozzle with the price in force; None when there is no such nozzle or no price."""
        row = self._db.execute(
            _BY_NUMBER, {"station": station_code, "number": nozzle_no, "at": at}
        ).mappings()
        found = row.first()
        return NozzleQuote(**found) if found else None

    def quote_of_device(
        self, station_code: str, node: int, fp: int, device_nozzle: int, at: datetime
    ) -> NozzleQuote | None:
        """Return the same by the dispenser's own numbers."""
        keys = {"station": station_code, "node": node, "fp": fp, "device_nozzle": device_nozzle, "at": at}
        found = self._db.execute(_BY_DEVICE, keys).mappings().first()
        return NozzleQuote(**found) if found else None

    def version_of_price(
        self, station_id: int, product_id: int, price_fen_per_unit: int, since: datetime, until: datetime
    ) -> int | None:
        """Return the latest version with this price that was in force at some time of a period; None when none was."""
        values = {
            "station": station_id,
            "product": product_id,
            "price": price_fen_per_unit,
            "since": since,
            "until": until,
        }
        return self._db.execute(_VERSION_OF_PRICE, values).scalar()

    def hold(self, fuelling_point_id: int, order_no: str, until: datetime | None, now: datetime) -> bool:
        """Take the fuelling point for an order; False when another order has it.

        One conditional update: of two orders at the same moment the row lock lets one win.
        """
        values = {"point": fuelling_point_id, "order": order_no, "until": until, "now": now}
        return self._db.execute(_HOLD, values).rowcount == 1

    def release(self, fuelling_point_id: int, order_no: str) -> None:
        """Let go of the fuelling point, if this order has it."""
        self._db.execute(_RELEASE, {"point": fuelling_point_id, "order": order_no})
