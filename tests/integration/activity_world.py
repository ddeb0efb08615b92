"""The order activities over a real database with a fake channel, and the rows that tests count."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, text

from activities.order_money import OrderMoneyActivities
from activities.order_opening import OrderOpeningActivities
from activities.ports import PaymentChannel, UnitOfWork
from contracts.fill import StartFill
from contracts.orders import (
    OpenSale,
)
from contracts.payment import PaymentOutcome
from contracts.station import EndReason, SaleRecord
from db.crypto import ColumnCipher
from db.seed import STATION, seed
from db.session import make_engine
from db.unit_of_work import unit_of_work
from domain import ids
from domain.payment import OutcomeKind, PayMethod
from domain.quantity import Unit
from tests.fakes.channel import FakeChannel

CIPHER = ColumnCipher({"test": bytes(32)}, bytes(32))
NOW = datetime(2026, 5, 1, 8, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class World:
    """The activities over a real database, and a few counts."""

    engine: Engine
    uow: UnitOfWork
    opening: OrderOpeningActivities
    money: OrderMoneyActivities
    driver_id: int

    def count(self, table: str, where: str = "true") -> int:
        """Return how many rows a table has."""
        with self.engine.connect() as db:
            return int(db.execute(text(f"SELECT count(*) FROM {table} WHERE {where}")).scalar_one())

    def add_driver(self, openid: str) -> int:
        """Add another driver; return the number."""
        return _add_driver(self.engine, openid)

    def start(self, key: str, *, nozzle: int = 1) -> StartFill:
        """Return a valid prepaid start."""
        return StartFill(
            order_no=ids.order_no_of_start("driver:1", key),
            station_code=STATION,
            nozzle_no=nozzle,
            amount_fen=20_000,
            price_fen_per_unit=735,
            price_version=1,
            method=PayMethod.WECHAT_JSAPI,
            body_hash="h",
            driver_id=self.driver_id,
        )

    def open_sale(self, number: int) -> str:
        """Open an unpaid sale of 147.00 yuan; return its order number."""
        sale = SaleRecord(
            natural_key=f"{STATION}:1:33:{number}:{number}",
            station_code=STATION,
            node=1,
            fp=0x21,
            nozzle=1,
            sequence=number,
            unit=Unit.LITRE,
            quantity_milli=20_000,
            amount_fen=14_700,
            price_fen_per_unit=735,
            end_reason=EndReason.NORMAL,
            recorded_at=NOW,
        )
        order_no = ids.order_no_of_sale(sale.natural_key)
        self.opening.open_sale(OpenSale(order_no=order_no, sale=sale))
        return order_no

    def post_by_hand(self, order_no: str, entries: list[tuple[str, str, int]]) -> None:
        """Write a journal past the repository, as somebody with a database client could."""
        journal = (
            "INSERT INTO ledger_journal (key, body_hash, order_no, memo, posted_at)"
            " VALUES ('x', 'x', :no, '', now()) RETURNING id"
        )
        entry = "INSERT INTO ledger_entry (journal_id, account, side, amount_fen) VALUES (:j, :a, :s, :f)"
        with self.engine.begin() as db:
            new = db.execute(text(journal), {"no": order_no}).scalar_one()
            for account, side, fen in entries:
                db.execute(text(entry), {"j": new, "a": account, "s": side, "f": fen})

    def execute(self, sql: str, **values: object) -> None:
        """Run one statement in a transaction of its own."""
        with self.engine.begin() as db:
            db.execute(text(sql), values)


def _add_driver(engine: Engine, openid: str) -> int:
    sql = "INSERT INTO driver (openid_cipher, openid_index, created_at) VALUES (:o, :i, now()) RETURNING id"
    sealed = CIPHER.encrypt("driver", "openid", openid)
    with engine.begin() as db:
        return int(db.execute(text(sql), {"o": sealed, "i": openid}).scalar_one())


@contextmanager
def open_world(database_url: str) -> Iterator[World]:
    """Seed a fresh database and run the activities over it."""
    engine = make_engine(database_url, pool_size=12)
    seed(engine, NOW - timedelta(hours=1))
    with engine.begin() as db:
        db.execute(text("INSERT INTO station_link VALUES (:code, :at, 0, 0)"), {"code": STATION, "at": NOW})
    uow = unit_of_work(engine, CIPHER)
    channel = FakeChannel()
    channels: dict[str, PaymentChannel] = {"wechat": channel, "cash": channel}
    yield World(
        engine=engine,
        uow=uow,
        opening=OrderOpeningActivities(uow, channels, lambda: NOW),
        money=OrderMoneyActivities(uow, lambda: NOW),
        driver_id=_add_driver(engine, "o_driver"),
    )
    engine.dispose()


def paid(number: str, amount_fen: int) -> PaymentOutcome:
    """Return a channel's confirmation."""
    return PaymentOutcome(
        kind=OutcomeKind.SUCCEEDED,
        out_trade_no=number,
        transaction_id=f"42{number}",
        amount_fen=amount_fen,
        payer_amount_fen=amount_fen,
        paid_at=NOW,
        signed=True,
    )
