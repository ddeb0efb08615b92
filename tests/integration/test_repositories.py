"""What PostgreSQL itself holds: an append-only ledger that balances, one holder a nozzle, steps that may run twice."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from activities.ports import LedgerConflictError
from contracts.fill import PayCommand, StartFill, StartOutcome
from contracts.orders import (
    BeginAttempt,
    OpenOrder,
    OweRefund,
    PostPayment,
    PostVerdict,
    RecordRefund,
)
from contracts.payment import RefundOutcome
from db.repositories.outbox import OutboxRelayStore, Outcome
from db.seed import NOZZLES, seed
from domain import ids, ledger
from domain.ledger import Account, Entry, Journal, Side
from domain.payment import PayMethod, RefundKind
from tests.integration.activity_world import NOW, World, open_world, paid


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[World]:
    """A seeded database of this test."""
    with open_world(fresh_database_url) as found:
        yield found


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
        "TRUNCATE ledger_journal, ledger_entry",
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


def _post_behind_an_early_check(world: World, order_no: str) -> None:
    entry = text(
        "INSERT INTO ledger_entry (journal_id, account, side, amount_fen) VALUES (:journal, '1090', :side, :fen)"
    )
    journal = text(
        "INSERT INTO ledger_journal (key, body_hash, order_no, memo, posted_at)"
        " VALUES ('early', 'x', :order_no, '', now()) RETURNING id"
    )
    with world.engine.begin() as db:
        number = db.execute(journal, {"order_no": order_no}).scalar_one()
        for side in ("D", "C"):
            db.execute(entry, {"journal": number, "side": side, "fen": 1})
        db.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        db.execute(entry, {"journal": number, "side": "D", "fen": 1_000_000})


def test_a_journal_that_was_checked_early_is_checked_again(world: World) -> None:
    order_no = world.open_sale(1)
    with pytest.raises(DBAPIError, match="does not balance"):
        _post_behind_an_early_check(world, order_no)


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
    assert found == [PostVerdict.ACCEPTED] * 6
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
