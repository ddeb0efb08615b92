"""SQL of orders, their story, sales, receipts and outbox. Row locks are taken here and nowhere else."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from activities.records import (
    EventRecord,
    OrderPlace,
    OrderRecord,
    OutboxRecord,
    ReceiptRecord,
    SaleRow,
)
from db.repositories.columns import table_of
from db.tables.inbox import OutboxMessage
from db.tables.order import FuelOrder, OrderEvent, Receipt, Sale
from db.tables.station import FuellingPoint, Nozzle, Operator, Product, Station
from domain.order import FillMode, OrderStatus

_order, _event, _sale, _receipt = table_of(FuelOrder), table_of(OrderEvent), table_of(Sale), table_of(Receipt)
_station, _operator, _product = table_of(Station), table_of(Operator), table_of(Product)
_nozzle, _point, _outbox = table_of(Nozzle), table_of(FuellingPoint), table_of(OutboxMessage)

_PLACE = (
    _operator.c.code.label("operator_code"),
    _station.c.code.label("station_code"),
    _station.c.name.label("station_name"),
    _station.c.gateway_shard,
    _point.c.node,
    _point.c.fp,
    _nozzle.c.number.label("nozzle_no"),
    _nozzle.c.device_nozzle,
    _product.c.name.label("product_name"),
    _product.c.kind.label("product_kind"),
    _product.c.tax_rate_bp,
    _product.c.platform_priced,
)
_PLACE_FIELDS = tuple(OrderPlace.__dataclass_fields__)
_ORDER_FIELDS = tuple(OrderRecord.__dataclass_fields__)
_IMMUTABLE = {"order_no", "created_at", "mode", "station_id", "operator_id", "nozzle_id", "fuelling_point_id"}

_LOCK_ORDER = (
    select(_order, *_PLACE)
    .join(_station, _station.c.id == _order.c.station_id)
    .join(_operator, _operator.c.id == _order.c.operator_id)
    .join(_nozzle, _nozzle.c.id == _order.c.nozzle_id)
    .join(_point, _point.c.id == _order.c.fuelling_point_id)
    .join(_product, _product.c.id == _order.c.product_id)
    .where(_order.c.order_no == bindparam("key"))
    .with_for_update(of=_order)
)
_CHANGEABLE = tuple(name for name in _ORDER_FIELDS if name not in _IMMUTABLE)
_SAVE_ORDER = (
    update(_order)
    .where(_order.c.order_no == bindparam("key"))
    .values({name: bindparam(name) for name in _CHANGEABLE})
)
_ADD_EVENTS = insert(_event).on_conflict_do_nothing(index_elements=["order_no", "key"])
_INSERT_SALE = (
    insert(_sale).on_conflict_do_nothing(index_elements=["natural_key"]).returning(_sale.c.natural_key)
)
_INSERT_ORDER = _order.insert()
_INSERT_RECEIPT = insert(_receipt).on_conflict_do_nothing(index_elements=["order_no"])
_INSERT_OUTBOX = insert(_outbox).on_conflict_do_nothing(index_elements=["key"])
_AWAITING_PAYMENT_OF = (
    select(func.count())
    .select_from(_order)
    .where(
        _order.c.driver_id == bindparam("driver"),
        _order.c.status == literal(OrderStatus.AWAITING_PAYMENT.value, literal_execute=True),
    )
)
"""The status is in the text, not a parameter: a prepared statement could not use the partial index otherwise."""
_SALE_OF = select(_sale).where(_sale.c.order_no == bindparam("key"))


def _order_from(row: Row[Any]) -> OrderRecord:
    values = {name: row._mapping[_order.c[name]] for name in _ORDER_FIELDS}
    values["mode"] = FillMode(values["mode"])
    values["status"] = OrderStatus(values["status"])
    return OrderRecord(**values)


class OrderRepository:
    """Orders over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def get_for_update(self, order_no: str) -> tuple[OrderRecord, OrderPlace] | None:
        """Return the locked row and its place in one look-up; None when there is no such order."""
        row = self._db.execute(_LOCK_ORDER, {"key": order_no}).first()
        if row is None:
            return None
        mapping = row._mapping
        place = OrderPlace(**{name: mapping[name] for name in _PLACE_FIELDS})
        return _order_from(row), place

    def insert(self, order: OrderRecord) -> None:
        """Insert a new order."""
        self._db.execute(_INSERT_ORDER, asdict(order))

    def awaiting_payment_of(self, driver_id: int) -> int:
        """Return how many prepaid orders of a driver wait for money."""
        return int(self._db.execute(_AWAITING_PAYMENT_OF, {"driver": driver_id}).scalar_one())

    def save(self, order: OrderRecord) -> None:
        """Write the changeable fields of a locked row."""
        values = {name: getattr(order, name) for name in _CHANGEABLE}
        self._db.execute(_SAVE_ORDER, {"key": order.order_no, **values})

    def add_events(self, events: tuple[EventRecord, ...]) -> None:
        """Append to the story; a key that is already there is left alone."""
        self._db.execute(_ADD_EVENTS, [asdict(e) for e in events])

    def sale_of(self, order_no: str) -> SaleRow | None:
        """Return the order's sale."""
        row = self._db.execute(_SALE_OF, {"key": order_no}).mappings().first()
        return SaleRow(**row) if row else None

    def order_of_sale(self, natural_key: str) -> str | None:
        """Return the order that has a sale; None when no order has it."""
        found = self._db.execute(select(_sale.c.order_no).where(_sale.c.natural_key == natural_key)).scalar()
        return str(found) if found else None

    def insert_sale(self, sale: SaleRow) -> bool:
        """Insert the sale; its natural key and its order are both unique. False when the key is booked already."""
        return self._db.execute(_INSERT_SALE, asdict(sale)).scalar() is not None

    def insert_receipt(self, receipt: ReceiptRecord) -> None:
        """Insert the order's only receipt; a second one is left out."""
        self._db.execute(_INSERT_RECEIPT, asdict(receipt))

    def insert_outbox(self, message: OutboxRecord) -> None:
        """Owe a customer a message; a key that is already there is left alone."""
        values = asdict(message)
        at = values.pop("at")
        self._db.execute(
            _INSERT_OUTBOX,
            {**values, "created_at": at, "due_at": at, "attempts": 0, "outcome": ""},
        )
