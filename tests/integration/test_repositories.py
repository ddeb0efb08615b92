"""What PostgreSQL itself holds: an append-only ledger that balances, one holder a nozzle, steps that may run twice."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from activities.order_money import OrderMoneyActivities
from activities.order_opening import OrderOpeningActivities
from activities.ports import LedgerConflictError, PaymentChannel, UnitOfWork
from contracts.fill import PayCommand, StartFill, StartOutcome
from contracts.orders import (
    BeginAttempt,
    OpenOrder,
    OpenSale,
    OweRefund,
    PostPayment,
    PostVerdict,
    RecordRefund,
)
from contracts.payment import PaymentOutcome, RefundOutcome
from contracts.station import EndReason, SaleRecord
from db.crypto import ColumnCipher
from db.repositories.outbox import OutboxRelayStore, Outcome
from db.seed import NOZZLES, STATION, seed
from db.session import make_engine
from db.unit_of_work import unit_of_work
from domain import ids, ledger
from domain.ledger import Account, Entry, Journal, Side
from domain.payment import OutcomeKind, PayMethod, RefundKind
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


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[World]:
    """A seeded database of this test."""
    engine = make_engine(fresh_database_url, pool_size=12)
    seed(engine, NOW - timedelta(hours=1))
    with engine.begin() as db:
        driver_id = db.execute(
            text(
                "INSERT INTO driver (openid_cipher, openid_index, created_at) VALUES (:o, 'i', now()) RETURNING id"
            ),
            {"o": CIPHER.encrypt("driver", "openid", "o_driver")},
        ).scalar_one()
        db.execute(text("INSERT INTO station_link VALUES (:code, :at, 0, 0)"), {"code": STATION, "at": NOW})
    uow = unit_of_work(engine, CIPHER)
    channel = FakeChannel()
    channels: dict[str, PaymentChannel] = {"wechat": channel, "cash": channel}
    yield World(
        engine=engine,
        uow=uow,
        opening=OrderOpeningActivities(uow, channels, lambda: NOW),
        money=OrderMoneyActivities(uow, lambda: NOW),
        driver_id=int(driver_id),
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


def at_once(work: Callable[[int], object], count: int) -> list[object]:
    """Run `work` in threads that start together; return the results, exceptions included."""
    gate, found = threading.Barrier(count), list[object]()

    def one(number: int) -> None:
        gate.wait(10)
        try:
            found.append(work(number))
        except Exception as error:  # noqa: BLE001 - handed to the test, which looks at every one
            found.append(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == count
    return found


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE ledger_entry SET amount_fen = amount_fen + 1",
        "DELETE FROM ledger_entry",
        "UPDATE ledger_journal SET memo = 'other'",
        "DELETE FROM ledger_journal",
        "UPDATE order_event SET detail = 'other'",
        "DELETE FROM order_event",
    ],
)
def test_books_are_append_only(world: World, sql: str) -> None:
    world.open_sale(1)
    with pytest.raises(DBAPIError, match="append-only"):
        world.execute(sql)
    assert world.count("ledger_entry") == 3


def test_entry_added_later_is_refused(world: World) -> None:
    world.open_sale(1)
    with pytest.raises(DBAPIError, match="never later"):
        world.execute(
            "INSERT INTO ledger_entry (journal_id, account, side, amount_fen) SELECT id, '1090', 'D', 1"
            " FROM ledger_journal"
        )


@pytest.mark.parametrize(
    "entries",
    [[], [("1100", "D", 100)], [("1100", "D", 100), ("4010", "C", 99)]],
    ids=["empty", "one-sided", "one fen off"],
)
def test_journal_that_does_not_balance_never_commits(
    world: World, entries: list[tuple[str, str, int]]
) -> None:
    order_no = world.open_sale(1)
    before = world.count("ledger_journal")
    with pytest.raises(DBAPIError, match="does not balance"):
        world.post_by_hand(order_no, entries)
    assert world.count("ledger_journal") == before


@pytest.mark.parametrize(("side", "fen"), [("D", 0), ("D", -1), ("X", 1)])
def test_senseless_entry_is_refused(world: World, side: str, fen: int) -> None:
    order_no = world.open_sale(1)
    with pytest.raises(DBAPIError, match="ck_ledger_entry"):
        world.post_by_hand(order_no, [("1090", side, fen)])


def test_same_journal_posts_once_and_another_under_its_key_is_an_error(world: World) -> None:
    order_no = world.open_sale(1)
    journal = ledger.receivable_paid("t", "cash", 14_700)
    with world.uow() as tx:
        assert tx.ledger.post(order_no, journal, NOW)
    with world.uow() as tx:
        assert not tx.ledger.post(order_no, journal, NOW)
    other = Journal(
        key=journal.key,
        memo="",
        entries=(
            Entry(account=Account.SUSPENSE, side=Side.DEBIT, amount_fen=1),
            Entry(account=Account.RECEIVABLE, side=Side.CREDIT, amount_fen=1),
        ),
    )
    with pytest.raises(LedgerConflictError), world.uow() as tx:
        tx.ledger.post(order_no, other, NOW)
    assert world.count("ledger_journal", f"key = '{journal.key}'") == 1


def test_of_many_holds_at_one_moment_one_wins(world: World) -> None:
    outcomes = sorted(
        str(one)
        for one in at_once(
            lambda n: world.opening.open_order(OpenOrder(start=world.start(f"k{n}"))).answer.outcome, 8
        )
    )
    assert outcomes == sorted([StartOutcome.ACCEPTED, *[StartOutcome.NOZZLE_TAKEN] * 7])
    assert world.count("fuel_order") == world.count("payment_attempt") == 1
    assert world.count("fuelling_point", "holder_order_no IS NOT NULL") == 1


def test_hold_runs_out_and_only_its_holder_lets_go(world: World) -> None:
    late = NOW + timedelta(minutes=5)
    with world.uow() as tx:
        assert tx.stations.hold(1, "first", NOW + timedelta(minutes=3), NOW)
        assert not tx.stations.hold(1, "second", None, NOW)
        tx.stations.release(1, "second")
        assert not tx.stations.hold(1, "second", None, NOW)
        assert tx.stations.hold(1, "second", None, late)
        assert not tx.stations.hold(1, "first", None, late + timedelta(days=30))
        tx.stations.release(1, "second")
        assert tx.stations.hold(1, "first", None, late)


def test_same_start_opens_one_order_and_another_body_is_an_error(world: World) -> None:
    start = world.start("k")
    first, second = (world.opening.open_order(OpenOrder(start=start)) for _ in range(2))
    assert (first.answer.outcome, first.attempt) == (second.answer.outcome, second.attempt)
    changed = StartFill(
        **{**{f: getattr(start, f) for f in start.__dataclass_fields__}, "body_hash": "other"}
    )
    assert world.opening.open_order(OpenOrder(start=changed)).answer.outcome is StartOutcome.KEY_REUSED
    assert world.count("fuel_order") == 1


def test_begin_attempt_meets_its_own_attempt(world: World) -> None:
    order_no = world.open_sale(1)
    pay = PayCommand(method=PayMethod.WECHAT_NATIVE, screen="pillar")

    def begin(command_id: str) -> str:
        begun = world.opening.begin_attempt(BeginAttempt(order_no=order_no, command_id=command_id, pay=pay))
        assert begun.attempt is not None
        return begun.attempt.out_trade_no

    numbers = [begin("a"), begin("a"), begin("b"), begin("a")]
    first, second = ids.out_trade_no(order_no, 1), ids.out_trade_no(order_no, 2)
    assert numbers == [first, first, second, first]
    assert at_once(lambda _: begin("c"), 6) == [ids.out_trade_no(order_no, 3)] * 6


def test_payment_posted_many_times_is_one_journal(world: World) -> None:
    order_no = world.open_sale(1)
    pay = PayCommand(method=PayMethod.WECHAT_NATIVE, screen="pillar")
    world.opening.begin_attempt(BeginAttempt(order_no=order_no, command_id="a", pay=pay))
    number = ids.out_trade_no(order_no, 1)
    request = PostPayment(order_no=order_no, outcome=paid(number, 14_700))
    found = at_once(lambda _: world.money.post_payment(request).verdict, 6)
    assert sorted(str(one) for one in found) == sorted([PostVerdict.ACCEPTED, *[PostVerdict.REPEATED] * 5])
    assert world.count("ledger_journal", f"key = 'pay:{number}'") == 1
    assert world.count("receipt") == 1


def test_two_payments_at_one_moment_keep_one_and_owe_one(world: World) -> None:
    order_no = world.open_sale(1)
    for command_id in ("a", "b"):
        pay = PayCommand(method=PayMethod.WECHAT_NATIVE, screen=command_id)
        world.opening.begin_attempt(BeginAttempt(order_no=order_no, command_id=command_id, pay=pay))

    def post(n: int) -> PostVerdict:
        outcome = paid(ids.out_trade_no(order_no, n + 1), 14_700)
        return world.money.post_payment(PostPayment(order_no=order_no, outcome=outcome)).verdict

    assert sorted(str(v) for v in at_once(post, 2)) == ["accepted", "surplus"]
    assert world.count("refund") == world.count("receipt") == 1
    assert world.count("fuel_order", "paid_fen = 14700 AND surplus_fen = 14700") == 1


def test_refund_recorded_twice_is_paid_out_once(world: World) -> None:
    start = world.start("k")
    world.opening.open_order(OpenOrder(start=start))
    number = ids.out_trade_no(start.order_no, 1)
    world.money.post_payment(PostPayment(order_no=start.order_no, outcome=paid(number, 20_000)))
    owed = [world.money.owe_refund(OweRefund(order_no=start.order_no, reason="r")).refund for _ in range(2)]
    assert owed[0] == owed[1]
    assert owed[0] is not None
    outcome = RefundOutcome(
        kind=RefundKind.SUCCEEDED, out_refund_no=owed[0].out_refund_no, amount_fen=20_000, refund_id="50"
    )
    request = RecordRefund(order_no=start.order_no, outcome=outcome)
    at_once(lambda _: world.money.record_refund(request), 4)
    assert world.count("refund") == 1
    assert world.count("ledger_journal", f"key = 'refund:{outcome.out_refund_no}'") == 1
    assert world.count("fuel_order", "status = 'refunded' AND refunded_fen = 20000") == 1


def test_same_sale_opens_one_order(world: World) -> None:
    assert world.open_sale(7) == world.open_sale(7)
    assert world.count("sale") == world.count("fuel_order") == 1


def test_seed_twice_changes_nothing(world: World) -> None:
    tables = ("operator", "station", "product", "price", "fuelling_point", "nozzle", "staff", "terminal")
    before = {table: world.count(table) for table in tables}
    seed(world.engine, NOW)
    assert {table: world.count(table) for table in tables} == before
    assert before["nozzle"] == len(NOZZLES)


def test_outbox_message_is_leased_to_one_relay_and_kept_until_done(world: World) -> None:
    order_no = world.open_sale(1)
    world.execute(
        "INSERT INTO outbox (key, kind, order_no, driver_id, body, created_at, due_at, attempts, outcome)"
        " SELECT 'receipt:' || n, 'receipt', :no, :driver, '{}', :at, :at, 0, '' FROM generate_series(1, 20) n",
        no=order_no,
        driver=world.driver_id,
        at=NOW,
    )
    store = OutboxRelayStore(world.engine)
    claimed = at_once(lambda _: [m.id for m in store.claim(NOW, 10)], 4)
    keys = [number for one in claimed if isinstance(one, list) for number in one]
    assert len(keys) == len(set(keys)) == 20
    assert store.claim(NOW, 50) == []
    later = Outcome(message_id=keys[1], outcome="later", again_at=NOW + timedelta(hours=1))
    store.finish([Outcome(message_id=keys[0], outcome="sent"), later], NOW)
    again = store.claim(NOW + timedelta(minutes=2), 50)
    assert {m.id for m in again} == set(keys[2:])
    assert {m.attempts for m in again} == {2}
    assert all(m.openid_cipher for m in again)
