"""A dispenser in memory that a test makes refuse, forget and talk nonsense."""

from datetime import UTC, datetime
from pathlib import Path

from domain.quantity import Unit
from station_gateway.client.config import DispenserConfig, NozzleConfig, PointConfig
from station_gateway.client.link import DispenserLink, LinkError
from station_gateway.client.outbox import Outbox
from station_gateway.client.point import Point
from station_gateway.client.sales import PointKey
from station_gateway.protocols.ifsf.ids import FpId, NozzleId, PriceId, TransactionId, transaction_db
from station_gateway.protocols.ifsf.messages import Address, Message, MessageType
from station_gateway.protocols.ifsf.numbers import (
    encode_amount,
    encode_unit_price,
    encode_volume,
    int_to_bcd,
)

NOW = datetime(2026, 8, 1, 4, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
FP = 0x21
PRICE = 735
IDLE, AUTHORISED = 3, 5
DEVICE, CONTROLLER = Address(1, 1), Address(2, 1)


class Device(DispenserLink):
    """One fuelling point with a transaction buffer; what the tests change are its public attributes."""

    def __init__(self) -> None:
        super().__init__(node=1, controller=CONTROLLER, answer_timeout_s=1.0, on_message=lambda _: None)
        self.state = IDLE
        self.clear_code = 0
        self.loses_clear = False
        """The wire is lost when the next transaction is to be cleared: the device never hears of it."""
        self.loses_clear_answer = False
        """The wire is lost after the next clear: the device has done it, and nobody hears of that."""
        self.buffer: list[tuple[int, int, int, int]] = []
        """(sequence, fen, hundredths of a litre, totaliser after it in thousandths)."""
        self.total: bytes | None = self.meter(1_000_000)
        self.tells_total_after = True
        self.releases = 0
        self.closes = 0
        self.dead_after_release = False

    @staticmethod
    def meter(milli: int) -> bytes:
        return b"\x0a" + int_to_bcd(milli // 10, 6)

    def close(self) -> None:
        self.closes += 1

    def _ack(self, code: int = 0, items: tuple[tuple[int, int], ...] = ()) -> Message:
        return Message(
            recipient=CONTROLLER,
            origin=DEVICE,
            type=MessageType.ACK,
            database=bytes((FP,)),
            ack=code,
            ack_items=items,
        )

    async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
        ids = [number for number, _ in items]
        if len(database) == 4 and TransactionId.CLEAR in ids:
            return self._clear(database)
        if FpId.RELEASE in ids:
            self.releases += 1
            self.state = AUTHORISED
            if self.dead_after_release:
                raise LinkError("no answer")
        if FpId.TERMINATE in ids:
            self.state = IDLE
        return self._ack()

    def _clear(self, database: bytes) -> Message:
        if self.clear_code:
            return self._ack(5, ((TransactionId.CLEAR, self.clear_code),))
        if self.loses_clear:
            self.loses_clear = False
            raise LinkError("connection lost")
        self.buffer = [one for one in self.buffer if transaction_db(FP, one[0]) != database]
        if self.loses_clear_answer:
            self.loses_clear_answer = False
            raise LinkError("connection lost")
        return self._ack()

    async def read(self, database: bytes, ids: bytes) -> Message:
        items: tuple[tuple[int, bytes], ...] = ((PriceId.PRICE, encode_unit_price(PRICE)),)
        if len(database) == 1:
            items = ((FpId.STATE, bytes((self.state,))), (FpId.NOZZLE_STATE, b"\0"))
        elif len(database) == 2:
            if self.total is None:
                return self._ack(5)
            items = ((NozzleId.VOLUME_TOTAL, self.total),)
        elif len(database) == 4:
            wanted = [one for one in self.buffer if database[2:] in (b"\0\0", int_to_bcd(one[0], 2))]
            if not wanted:
                return self._ack(5)
            database, items = self._transaction(*wanted[0])
        return Message(
            recipient=CONTROLLER, origin=DEVICE, type=MessageType.ANSWER, database=database, items=items
        )

    def _transaction(
        self, sequence: int, fen: int, centi: int, after: int
    ) -> tuple[bytes, tuple[tuple[int, bytes], ...]]:
        database = transaction_db(FP, sequence)
        items: tuple[tuple[int, bytes], ...] = (
            (TransactionId.SEQUENCE, database[2:]),
            (TransactionId.AMOUNT, encode_amount(fen)),
            (TransactionId.VOLUME, encode_volume(centi)),
            (TransactionId.UNIT_PRICE, encode_unit_price(PRICE)),
            (TransactionId.NOZZLE, b"\x01"),
            (TransactionId.STATE, b"\x02"),
        )
        if self.tells_total_after:
            items += ((TransactionId.TOTAL_AFTER, self.meter(after)),)
        return database, items


def point_of(device: Device, folder: Path) -> Point:
    """Return a fuelling point whose wire is the device."""
    nozzle = NozzleConfig(nozzle=1, number=1, product=92, unit=Unit.LITRE)
    return Point(
        key=PointKey(station_code="ST", node=1, config=PointConfig(fp=FP, nozzles=(nozzle,))),
        link=device,
        outbox=Outbox(folder / "outbox.sqlite3"),
        controller=b"\2\1",
        device=DispenserConfig(node=1, ip="127.0.0.1", points=()),
        postpaid_release=True,
        settle_retry_s=0.01,
        on_change=lambda: None,
        on_result=lambda: None,
        now=lambda: NOW,
    )
