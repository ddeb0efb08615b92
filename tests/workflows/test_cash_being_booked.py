"""Cash that a person handed back and that the books do not have yet: whoever clicks meanwhile is told what is true."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import text

from activities import options
from contracts import names
from contracts.fill import CommandAnswer
from contracts.payment import RefundOutcome, RefundRequest
from domain.payment import RefundKind
from tests.workflows.harness import Handle, Harness
from tests.workflows.test_cash_handed_back import NEED, cash, desk, slow_queries, two_closed_in_one_run
from tests.workflows.test_failures import failed_tasks
from tests.workflows.test_held_money import two_closed_runs
from tests.workflows.test_refund_decisions import rest_that_waits

ORDER = "SELECT 1 FROM fuel_order WHERE order_no = :n FOR UPDATE"
"""Held, the need of a person cannot be taken back: the step before the books."""
REFUND = "SELECT 1 FROM refund WHERE out_refund_no = :n FOR UPDATE"
"""Held, the need is taken back and the refund is not booked."""
_AWAY, _DEFECT = "55P03", "23514"
"""What time mends (a lock that is not given), and what it does not (a check that is violated)."""
REST_FEN, SECOND_FEN = 5_300, 20_000


@contextmanager
def held(harness: Harness, row: str, number: str) -> Iterator[None]:
    """Keep a row locked: the transaction that books the cash waits for it."""
    with harness.engine.connect() as lock:
        lock.execute(text(row), {"n": number})
        try:
            yield
        finally:
            lock.rollback()


def click(handle: Handle, numbers: tuple[str, ...], name: str, who: str) -> asyncio.Task[CommandAnswer]:
    """Say that cash was handed back, directly to a run."""
    update = handle.execute_update(
        names.UPDATE_RESOLVE, cash(numbers, who), id=name, result_type=CommandAnswer
    )
    return asyncio.ensure_future(update)


async def two_seen(harness: Harness) -> tuple[str, Handle, str, str]:
    """One run of which two refunds are closed: the rest of the fill, and a second payment."""
    order_no, handle, second = await two_closed_in_one_run(harness)
    (rest,) = harness.counted_out(order_no, NEED)
    harness.channel.trades[second].state = "SUCCESS"
    await harness.report(handle, second)
    for _ in range(200):
        if len(both := harness.counted_out(order_no, NEED)) == 2:
            break
        await asyncio.sleep(0.05)
    (late,) = (number for number in both if number != rest)
    return order_no, handle, rest, late


@pytest.mark.parametrize("row", [ORDER, REFUND])
async def test_a_second_click_before_the_books_have_the_first_is_told_that_it_is_done(
    harness: Harness, row: str
) -> None:
    """Nobody is told to take cash back from the customer that is just being booked."""
    own = harness.on_own_queue()
    async with own.worker():
        order_no, handle = await rest_that_waits(own, RefundKind.CLOSED)
        seen, commands = own.counted_out(order_no), desk(own)
        with held(own, row, order_no if row is ORDER else seen[0]):
            assert (await commands.resolve(order_no, cash(seen))).message == "已处理"
            await asyncio.sleep(0.5)
            assert (own.order(order_no)["needs_person"] == "") is (row is REFUND)
            again = await commands.resolve(order_no, cash(seen))
            other = await commands.resolve(order_no, cash(seen, "staff:2"))
            assert own.balance("1010.cash", order_no) == 0, "not booked yet"
        assert (again.ok, again.message) == (True, "共 53.00 元此前已由您登记为现金退还，不再重复登记")
        assert (other.ok, other.code) == (False, "ALREADY_DONE")
        assert other.message == (
            "已由他人处理。53.00 元此前已由他人登记为现金退还；请收回点出的现金，刷新后核对"
        )
        assert (await handle.result()).status == "completed"
    assert own.balance("1010.cash", order_no) == -REST_FEN


async def test_a_form_with_one_more_refund_is_told_which_of_them_is_booked(harness: Harness) -> None:
    """All or none: the first is being booked, so the second one of the form is not taken along with it."""
    own = harness.on_own_queue()
    async with own.worker():
        order_no, handle, rest, late = await two_seen(own)
        commands = desk(own)
        with held(own, REFUND, rest):
            assert (await commands.resolve(order_no, cash((rest,)))).ok
            await asyncio.sleep(0.5)
            mine = await commands.resolve(order_no, cash((rest, late)))
            other = await commands.resolve(order_no, cash((rest, late), "staff:2"))
        assert (mine.ok, mine.code, mine.returned) == (False, "PARTLY_DONE", (rest,))
        assert mine.message == (
            "53.00 元已登记为现金退还，200.00 元未登记；已登记以外的现金请收回，刷新后核对"
        )
        assert (other.ok, other.code, other.returned) == (False, "ALREADY_DONE", ())
        assert other.message == (
            "已由他人处理。53.00 元此前已由他人登记为现金退还，200.00 元未登记；请收回点出的现金，刷新后核对"
        )
        await own.until(order_no, needs=NEED)
        assert own.balance("1010.cash", order_no) == -REST_FEN
        assert (await commands.resolve(order_no, cash((late,)))).ok
        await handle.result()
    assert own.balance("1010.cash", order_no) == -REST_FEN - SECOND_FEN


async def test_refunds_of_two_people_that_are_being_booked_are_told_apart(harness: Harness) -> None:
    own = harness.on_own_queue()
    async with own.worker():
        order_no, handle, rest, late = await two_seen(own)
        commands = desk(own)
        with held(own, ORDER, order_no):
            assert (await click(handle, (rest,), "rest", "staff:1")).ok
            assert (await click(handle, (late,), "late", "staff:2")).ok
            both = await commands.resolve(order_no, cash((rest, late)))
        assert (both.ok, both.code) == (False, "PARTLY_DONE")
        assert both.message == (
            "已由他人处理。53.00 元已登记为现金退还，200.00 元此前已由他人登记为现金退还；"
            "已登记以外的现金请收回，刷新后核对"
        )
        await handle.result()
    assert own.balance("1010.cash", order_no) == -REST_FEN - SECOND_FEN


async def test_a_larger_sum_names_what_of_it_an_earlier_click_has_booked(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both clicks wait for the channel: the second takes the new refund along and counts the first one once."""
    order_no, handle, rest, late = await two_seen(harness)
    gate = slow_queries(harness, monkeypatch)
    one = click(handle, (rest,), "one", "staff:1")
    await asyncio.sleep(0.3)
    two = click(handle, (rest, late), "two", "staff:1")
    await asyncio.sleep(0.3)
    gate.set()
    first, second = await one, await two
    assert (first.ok, first.message, first.returned_fen) == (True, "已处理", REST_FEN)
    assert (second.ok, second.returned) == (True, (rest, late))
    assert (second.returned_fen, second.earlier_fen) == (REST_FEN + SECOND_FEN, REST_FEN)
    assert second.message == "共 253.00 元已登记为现金退还，其中 53.00 元此前已由您登记，不再重复登记"
    await handle.result()
    assert harness.balance("1010.cash", order_no) == -REST_FEN - SECOND_FEN


async def test_a_second_click_that_the_channel_does_not_answer_is_told_of_the_first(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The channel is sure for the first click and silent for the second: that one's cash is booked all the same."""
    order_no, handle = await rest_that_waits(harness, RefundKind.CLOSED)
    seen, ask, queries = harness.counted_out(order_no), harness.channel.query_refund, itertools.count()
    gates = threading.Event(), threading.Event()

    def query_refund(request: RefundRequest) -> RefundOutcome:
        first = next(queries) == 0
        gates[0 if first else 1].wait(9)
        unknown = RefundOutcome(kind=RefundKind.UNKNOWN, out_refund_no=request.out_refund_no)
        return ask(request) if first else unknown

    monkeypatch.setattr(harness.channel, "query_refund", query_refund)
    clicks: list[asyncio.Task[CommandAnswer]] = []
    for who in ("staff:1", "staff:1", "staff:2"):
        clicks.append(click(handle, seen, f"click-{len(clicks)}", who))
        await asyncio.sleep(0.3)
    gates[0].set()
    assert (await clicks[0]).message == "已处理"
    gates[1].set()
    again, other = await clicks[1], await clicks[2]
    assert (again.ok, again.message) == (True, "共 53.00 元此前已由您登记为现金退还，不再重复登记")
    assert (other.ok, other.code, other.by_others) == (False, "ALREADY_DONE", seen)
    assert (await handle.result()).status == "completed"
    assert harness.balance("1010.cash", order_no) == -REST_FEN


@pytest.mark.timeout(60)  # each answer waits for the end of a workflow task that holds a slow transaction
async def test_two_runs_tell_what_of_the_sum_was_booked_before(harness: Harness) -> None:
    """Of an ended order each run answers for its own refund: the words are of the sum, not of whoever is asked first."""
    own = harness.on_own_queue()
    async with own.worker():
        order_no, runs = await two_closed_runs(own)
        seen, commands = own.counted_out(order_no, NEED), desk(own)
        with held(own, ORDER, order_no):
            assert (await commands.resolve(order_no, cash(seen[:1]))).message == "已处理"
            both = await commands.resolve(order_no, cash(seen))
            words = "共 294.00 元已登记为现金退还，其中 147.00 元此前已由您登记，不再重复登记"
            assert (both.ok, both.message) == (True, words)
            again = await commands.resolve(order_no, cash(seen))
            assert (again.ok, again.message) == (
                True,
                "共 294.00 元此前已由您登记为现金退还，不再重复登记",
            )
            other = await commands.resolve(order_no, cash(seen, "staff:2"))
            assert other.message == (
                "已由他人处理。294.00 元此前已由他人登记为现金退还；请收回点出的现金，刷新后核对"
            )
        assert [await run.result() for run in runs] == ["returned", "returned"]
    assert own.balance("1010.cash", order_no) == 14_700 - 2 * 14_700


@contextmanager
def refused(harness: Harness, order_no: str, sqlstate: str) -> Iterator[None]:
    """Let the database refuse what would book money of an order."""
    body = f"IF NEW.order_no = '{order_no}' THEN RAISE SQLSTATE '{sqlstate}'; END IF; RETURN NEW;"
    made = (
        f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON ledger_journal FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    with harness.engine.begin() as db:
        for statement in made:
            db.execute(text(statement))
    try:
        yield
    finally:
        with harness.engine.begin() as db:
            db.execute(text("DROP TRIGGER refuse ON ledger_journal"))
            db.execute(text("DROP FUNCTION refuse"))


async def test_what_was_handed_back_is_known_to_the_next_worker(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker goes between a person's word and the books: another one replays the word and books it once."""
    monkeypatch.setitem(options.DATABASE, "local_retry_threshold", timedelta(milliseconds=300))
    own = harness.on_own_queue()
    async with own.worker():
        order_no, handle = await rest_that_waits(own, RefundKind.CLOSED)
    seen, commands = own.counted_out(order_no), desk(own)
    with refused(own, order_no, _AWAY):
        async with own.worker():
            assert (await commands.resolve(order_no, cash(seen))).message == "已处理"
        async with own.worker():
            again = await commands.resolve(order_no, cash(seen))
            other = await commands.resolve(order_no, cash(seen, "staff:2"))
        assert (again.ok, again.message) == (True, "共 53.00 元此前已由您登记为现金退还，不再重复登记")
        assert (other.ok, other.code) == (False, "ALREADY_DONE")
        assert own.balance("1010.cash", order_no) == 0, "not booked yet"
    async with own.worker():
        assert (await handle.result()).status == "completed"
    assert own.balance("1010.cash", order_no) == -REST_FEN


async def test_cash_that_the_books_refuse_is_told_as_nothing_until_they_are_mended(harness: Harness) -> None:
    """The step that books it fails for good: no click is answered, none wrongly, and all are once it is mended."""
    order_no, handle = await rest_that_waits(harness, RefundKind.CLOSED)
    seen = harness.counted_out(order_no)
    with refused(harness, order_no, _DEFECT):
        clicks = [click(handle, seen, "one", "staff:1")]
        for _ in range(100):
            if found := await failed_tasks(handle):
                break
            await asyncio.sleep(0.1)
        assert "record_refund" in found[0]
        clicks += [click(handle, seen, "two", "staff:1"), click(handle, seen, "three", "staff:2")]
        await asyncio.sleep(1.0)
        assert not any(one.done() for one in clicks)
    answers = [await one for one in clicks]
    assert [(one.ok, one.code) for one in answers] == [(True, ""), (True, ""), (False, "ALREADY_DONE")]
    assert answers[1].message == "共 53.00 元此前已由您登记为现金退还，不再重复登记"
    assert (await handle.result()).status == "completed"
    assert harness.balance("1010.cash", order_no) == -REST_FEN
