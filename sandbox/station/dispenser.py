"""One dispenser node: routes reads and writes to its databases and collects what must be sent.

It knows no socket. `handle` takes a message and returns the answer; `outbox` holds unsolicited messages in
order.
"""

from __future__ import annotations

import structlog

from sandbox.station import readings
from sandbox.station.clock import Clock
from sandbox.station.config import MAX_PRICE_FEN, DispenserConfig
from sandbox.station.data_ids import (
    CALCULATOR,
    COMMUNICATION,
    ERRORS,
    OFFLINE_TRANSACTIONS,
    PRODUCT_PRICES,
    TRANSACTIONS,
    Com,
    Error,
    Fp,
    FpState,
    Price,
)
from sandbox.station.faults import FaultBoard, FaultKind
from sandbox.station.fuelling_point import FuellingPoint
from sandbox.station.ifsf_wire import (
    ACK_ALL,
    ACK_SOME_REFUSED,
    ACK_UNKNOWN_ADDRESS,
    DataAck,
    Item,
    Kind,
    Lna,
    Message,
    WireError,
    decode_bcd,
    encode_bcd,
    hundredths,
)
from sandbox.station.ledger import Ledger, Sale

log = structlog.get_logger(__name__)

DISPENSER_SUBNET = 1
CONTROLLER_SUBNET = 2
DEFAULT_CONTROLLER = Lna(CONTROLLER_SUBNET, 1)
Results = tuple[tuple[int, int], ...]


class Dispenser:
    """The protocol side of a node. Not thread-safe: one event loop owns it."""

    def __init__(self, *, config: DispenserConfig, clock: Clock, ledger: Ledger) -> None:
        self.config = config
        self.clock = clock
        self.ledger = ledger
        self.faults = FaultBoard()
        self.lna = Lna(DISPENSER_SUBNET, config.node)
        self.controller = DEFAULT_CONTROLLER
        self.recipients: set[bytes] = set()
        self.outbox: list[Message] = []
        self._prices_due: list[tuple[int, int, int]] = []
        self.points = {
            one.fp: FuellingPoint(
                dispenser=config, config=one, clock=clock, ledger=ledger, faults=self.faults, events=self
            )
            for one in config.points
        }

    # -- requests ----------------------------------------------------------------------------------

    def handle(self, message: Message) -> Message | None:
        """Answer one message of a controller; None when it is not for this node or wants no answer."""
        if message.to != self.lna or message.code != 0:
            return None
        if message.kind is Kind.READ:
            return self._read(message)
        if message.kind is Kind.WRITE:
            return self._ack(message, self._write(message))
        return None

    def _read(self, message: Message) -> Message:
        found = readings.read(self, message.db, message.ids)
        if found is None:
            return self._ack(message, None)
        db, items = found
        return Message(
            to=message.sender, sender=self.lna, kind=Kind.ANSWER, token=message.token, db=db, items=items
        )

    def _ack(self, message: Message, results: Results | None) -> Message:
        if results is None:
            ms_ack, results = ACK_UNKNOWN_ADDRESS, ()
        elif all(code == DataAck.OK for _, code in results):
            ms_ack, results = ACK_ALL, ()
        else:
            ms_ack = ACK_SOME_REFUSED
        return Message(
            to=message.sender,
            sender=self.lna,
            kind=Kind.ACK,
            token=message.token,
            db=message.db,
            ms_ack=ms_ack,
            results=results,
        )

    def _write(self, message: Message) -> Results | None:
        """Results by item, or None for a database that does not exist."""
        db = message.db
        sender = message.sender.encode()
        if db == COMMUNICATION:
            return tuple((item.data_id, self._write_communication(item)) for item in message.items)
        if db == CALCULATOR:
            return tuple((item.data_id, DataAck.READ_ONLY) for item in message.items)
        if db[0] == PRODUCT_PRICES and len(db) == 6:
            return self._write_price(db, message.items)
        point = self.points.get(db[0])
        if point is None:
            return None
        if len(db) == 1:
            return point.write(message.items, sender)
        sale = self.find_sale(db)
        return None if sale is None else point.buffer.write(sale, message.items, sender)

    def find_sale(self, db: bytes) -> Sale | None:
        """Transaction of a `21 21 nnnn` (or `21 20 nnnn`, offline) address; number 0000 is the oldest
        unpaid one.
        """
        point = self.points.get(db[0])
        if point is None or len(db) != 4 or db[1] not in (TRANSACTIONS, OFFLINE_TRANSACTIONS):
            return None
        try:
            return point.buffer.get(decode_bcd(db[2:]))
        except WireError:
            return None

    def _write_communication(self, item: Item) -> DataAck:
        if len(item.data) < 2 or item.data_id not in (Com.ADD_RECIPIENT, Com.REMOVE_RECIPIENT):
            return DataAck.READ_ONLY
        if item.data_id == Com.ADD_RECIPIENT:
            self.recipients.add(item.data[:2])
        else:
            self.recipients.discard(item.data[:2])
        return DataAck.OK

    def _write_price(self, db: bytes, items: tuple[Item, ...]) -> Results:
        results: list[tuple[int, int]] = []
        for item in items:
            if item.data_id != Price.PRICE:
                results.append((item.data_id, DataAck.READ_ONLY))
                continue
            results.append((item.data_id, self._accept_price(db, item.data)))
        return tuple(results)

    def _accept_price(self, db: bytes, data: bytes) -> DataAck:
        """Accepting only means that the board got it; whether it is applied follows as an event (99, 35, 36
        or 37).
        """
        try:
            product, price = decode_bcd(db[1:5]), hundredths(data)
        except WireError:
            return DataAck.INVALID_VALUE
        if not 0 < price <= MAX_PRICE_FEN:
            return DataAck.INVALID_VALUE
        self._prices_due.append((self.clock.real_ms() + self.config.price_apply_ms, product, price))
        return DataAck.OK

    # -- time --------------------------------------------------------------------------------------

    def due(self) -> int | None:
        """The next real millisecond at which `tick` has something to do."""
        times = [one for one in (point.due() for point in self.points.values()) if one is not None]
        return min([*times, *(at for at, _, _ in self._prices_due)], default=None)

    def tick(self) -> bool:
        """Do what is due; True when something happened."""
        now = self.clock.real_ms()
        ready = [one for one in self._prices_due if one[0] <= now]
        self._prices_due = [one for one in self._prices_due if one[0] > now]
        for _, product, price in ready:
            self._apply_price(product, price)
        ticked = [point.tick() for point in self.points.values()]
        return any(ticked) or bool(ready)

    def _apply_price(self, product: int, price: int) -> None:
        sellers = [
            (point, nozzle)
            for point in self.points.values()
            for nozzle in point.config.nozzles
            if nozzle.product == product
        ]
        if not sellers:
            self.error(next(iter(self.points.values())), Error.PRICE_MISMATCH)
            return
        for point, nozzle in sellers:
            fault = self.faults.take(FaultKind.PRICE_REFUSED, point.fp)
            if fault:
                self.error(point, Error(fault["error"]))
            elif point.state not in (FpState.IDLE, FpState.CLOSED):
                self.error(point, Error.PRICE_NOT_ALLOWED)
            else:
                self.ledger.set_price(self.config.node, point.fp, nozzle.nozzle, price)
                self.error(point, Error.PRICE_APPLIED)

    def power_cut(self) -> None:
        """Lose the RAM: recipients, prices not yet applied, messages not yet sent, every open release."""
        for point in self.points.values():
            point.power_cut()
        self.recipients.clear()
        self._prices_due.clear()
        self.outbox.clear()

    def link_restored(self) -> None:
        """The controller is there (again): say where every point stands and announce what is unpaid."""
        for point in self.points.values():
            self.status(point)
            point.buffer.restart(self.clock.real_ms())

    # -- unsolicited messages (the Events port of the points) --------------------------------------

    def status(self, point: FuellingPoint) -> None:
        """64: state, nozzle switches, assigned controller."""
        items = readings.point_items(point, (Fp.STATE, Fp.NOZZLE_STATE, Fp.ASSIGNED_CONTROLLER))
        self._emit(bytes((point.fp,)), (Item(Fp.STATUS_MESSAGE), *items))

    def running(self, point: FuellingPoint) -> None:
        """66: amount and quantity so far. For display only, nobody may bill from it."""
        items = readings.point_items(point, (Fp.CURRENT_AMOUNT, Fp.CURRENT_VOLUME))
        self._emit(bytes((point.fp,)), (Item(Fp.RUNNING_MESSAGE), *items))

    def error(self, point: FuellingPoint, code: Error) -> None:
        """64 of the error database: the code and the state of the point."""
        point.last_error = code
        items = (Item(Fp.STATUS_MESSAGE), Item(0x01, bytes((code,))), Item(0x05, bytes((point.state,))))
        self._emit(bytes((point.fp, ERRORS, code)), items)

    def transaction(self, sale: Sale) -> None:
        """64 of the transaction database: number, state, lock, amount, quantity."""
        db = bytes((sale.fp, TRANSACTIONS)) + encode_bcd(sale.seq, 4)
        self._emit(db, readings.transaction_event(sale))

    def _emit(self, db: bytes, items: tuple[Item, ...]) -> None:
        if self.config.require_recipient and not self.recipients:
            return
        self.outbox.append(Message(to=self.controller, sender=self.lna, kind=Kind.EVENT, db=db, items=items))
