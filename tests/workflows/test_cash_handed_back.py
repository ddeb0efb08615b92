"""Cash that a person handed back: exactly the refunds that they saw are settled, and told as done only when all are."""

import asyncio
import threading
from datetime import timedelta

import pytest

from api import temporal_gateway
from api.commands import Commands
from api.database import Database
from api.ports import OrderEndedError, TemporalAwayError
from api.temporal_gateway import ClientTemporalGateway
from contracts import names
from contracts.fill import CommandAnswer, ResolveAction, ResolveCommand
from contracts.payment import CloseOutcome, RefundOutcome, RefundRequest
from domain import policy
from domain.payment import CloseKind, PayMethod, RefundKind
from tests.workflows.harness import Handle, Harness
from tests.workflows.test_held_money import (
    closed_refunds,
    give_back,
    routed,
    two_closed_runs,
    two_late_payments,
)
from tests.workflows.test_refund_decisions import rest_that_waits

NEED = "refund_closed"
BOTH_FEN = 2 * 14_700


def cash(numbers: tuple[str, ...], actor: str = "staff:1") -> ResolveCommand:
    """A person's word that the sum of these refunds was handed back."""
    action = ResolveAction.CASH_RETURNED
    return ResolveCommand(actor=actor, action=action, note="已点清", need=NEED, refund_nos=numbers)


def slow_queries(harness: Harness, patch: pytest.MonkeyPatch, of_trade: str = "") -> threading.Event:
    """Let the channel answer about refunds (of one payment) only once the returned event is set."""
    gate, ask = threading.Event(), harness.channel.query_refund

    def query_refund(request: RefundRequest) -> RefundOutcome:
        if request.out_trade_no.startswith(of_trade):
            gate.wait(9)
        return ask(request)

    patch.setattr(harness.channel, "query_refund", query_refund)
    return gate


async def test_cash_counted_out_settles_the_refunds_that_were_seen_and_no_later_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the form and the click a second refund is closed: its money is not on the counter."""
    monkeypatch.setattr(policy, "NEED_LOOK_LADDER", (timedelta(milliseconds=300),))
    order_no, one, two = await two_late_payments(harness, second_fen=14_700)
    harness.channel.refunds_to_close = 2
    first = await give_back(harness, order_no, one)
    await closed_refunds(harness, order_no, 1)
    seen = harness.counted_out(order_no, "refund_closed")
    second = await give_back(harness, order_no, two)
    await closed_refunds(harness, order_no, 2)
    both = harness.counted_out(order_no, "refund_closed")
    assert (len(seen), len(both)) == (1, 2)
    assert (await routed(harness, order_no, ResolveAction.CASH_RETURNED, "refund_closed", seen)).ok
    assert await first.result() == "returned"
    assert harness.balance("2040", order_no) == -14_700, "the second is still owed"
    rest = tuple(number for number in both if number not in seen)
    command = ResolveCommand(
        actor="staff:1",
        action=ResolveAction.CASH_RETURNED,
        note="已核对",
        need="refund_closed",
        refund_nos=rest,
    )
    await harness.until(order_no, "completed", needs="refund_closed")
    assert (await ClientTemporalGateway(harness.client).resolve(order_no, command, "rest")).ok
    assert await second.result() == "returned"
    assert harness.balance("2040", order_no) == 0


async def test_a_sum_that_is_no_longer_owed_hands_nothing_back(harness: Harness) -> None:
    order_no, handle = await rest_that_waits(harness, RefundKind.REJECTED)
    seen = harness.counted_out(order_no)
    for counted in ((*seen, f"{seen[0]}-2"), ("unknown",)):
        refused = await harness.resolve(handle, ResolveAction.CASH_RETURNED, refund_nos=counted)
        assert (refused.code, refused.message) == ("CHANGED", "应退金额已变化，请刷新后核对")
    assert (await harness.resolve(handle, ResolveAction.CASH_RETURNED, refund_nos=())).code == "NOT_WAITING"
    assert harness.balance("1010.cash", order_no) == 0
    assert (await harness.resolve(handle, ResolveAction.CASH_RETURNED, refund_nos=seen)).ok
    assert (await handle.result()).status == "completed"


async def test_cash_of_two_runs_of_which_one_is_not_sure_is_not_told_as_done(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_no, runs = await two_closed_runs(harness)
    two = runs[1].id.removeprefix("surplus-")
    ask = harness.channel.query_refund

    def query_refund(request: RefundRequest) -> RefundOutcome:
        if request.out_trade_no == two:
            return RefundOutcome(kind=RefundKind.UNKNOWN, out_refund_no=request.out_refund_no)
        return ask(request)

    with monkeypatch.context() as patch:
        patch.setattr(harness.channel, "query_refund", query_refund)
        answer = await routed(harness, order_no, ResolveAction.CASH_RETURNED, "refund_closed")
    assert (answer.ok, answer.code) == (False, "PARTLY_DONE")
    assert answer.returned_fen == 14_700
    await runs[1].terminate("end of the test")


async def test_cash_of_two_runs_of_which_one_is_tried_again_at_the_channel(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One manager retries, another still has the form with the sum of both: no "done" while the channel pays one."""
    order_no, runs = await two_closed_runs(harness)
    seen = harness.counted_out(order_no, NEED)
    gate = slow_queries(harness, monkeypatch, runs[1].id.removeprefix("surplus-"))
    retry = ResolveCommand(actor="staff:2", action=ResolveAction.RETRY_REFUND, note="重试", need=NEED)
    assert (
        await runs[1].execute_update(names.UPDATE_RESOLVE, retry, id="retry", result_type=CommandAnswer)
    ).ok
    await asyncio.sleep(0.5)
    answer = await ClientTemporalGateway(harness.client).resolve(order_no, cash(seen), "cash")
    gate.set()
    assert (answer.ok, answer.code, answer.returned_fen) == (False, "PARTLY_DONE", 14_700)
    assert [await run.result() for run in runs] == ["returned", "returned"]
    assert harness.balance("1010.cash", order_no) == 0, "147.00 taken, 147.00 handed back"


async def test_a_command_repeated_after_a_timeout_settles_what_the_first_one_did_not_reach(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_no, runs = await two_closed_runs(harness)
    gateway, seen = ClientTemporalGateway(harness.client), harness.counted_out(order_no, NEED)
    gate = slow_queries(harness, monkeypatch)
    monkeypatch.setattr(temporal_gateway, "UPDATE_TIMEOUT", timedelta(seconds=1))
    with pytest.raises(TemporalAwayError):
        await gateway.resolve(order_no, cash(seen), "key-1")
    gate.set()
    await asyncio.sleep(1.5)
    monkeypatch.setattr(temporal_gateway, "UPDATE_TIMEOUT", timedelta(seconds=15))
    assert (await gateway.resolve(order_no, cash(seen), "key-1")).ok
    assert [await run.result() for run in runs] == ["returned", "returned"]
    assert harness.balance("1010.cash", order_no) == 14_700 - BOTH_FEN


async def test_cash_of_two_runs_of_which_one_is_gone_is_not_told_as_done(harness: Harness) -> None:
    order_no, runs = await two_closed_runs(harness)
    seen = harness.counted_out(order_no, NEED)
    await runs[0].terminate("by hand, against the rules")
    answer = await ClientTemporalGateway(harness.client).resolve(order_no, cash(seen), "cash")
    assert (answer.ok, answer.code) == (False, "PARTLY_DONE")
    assert await runs[1].result() == "returned"
    assert harness.balance("1010.cash", order_no) == 14_700 - 14_700


async def test_an_equal_sum_of_another_refund_is_not_taken_for_the_one_that_was_seen(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is retried and paid by the channel, the second is closed: a stale form settles neither."""
    monkeypatch.setattr(policy, "NEED_LOOK_LADDER", (timedelta(milliseconds=300),))
    order_no, one, two = await two_late_payments(harness, second_fen=14_700)
    harness.channel.refunds_to_close = 1
    first = await give_back(harness, order_no, one)
    await closed_refunds(harness, order_no, 1)
    seen = harness.counted_out(order_no, NEED)
    assert (await routed(harness, order_no, ResolveAction.RETRY_REFUND, NEED)).ok
    assert await first.result() == "returned"
    harness.channel.refunds_to_close = 1
    second = await give_back(harness, order_no, two)
    await closed_refunds(harness, order_no, 2)
    await harness.until(order_no, "completed", needs=NEED)
    gateway = ClientTemporalGateway(harness.client)
    assert not await _is_settled(gateway, order_no, seen)
    assert harness.balance("1010.cash", order_no) == 14_700
    await second.terminate("end of the test")


async def _is_settled(gateway: ClientTemporalGateway, order_no: str, numbers: tuple[str, ...]) -> bool:
    try:
        return (await gateway.resolve(order_no, cash(numbers), "stale")).ok
    except OrderEndedError:
        return False


async def two_closed_in_one_run(harness: Harness) -> tuple[str, Handle, str]:
    """A prepaid order whose rest the channel has closed; a second payment of it may still capture."""
    harness.channel.script["close"] = [CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no="")] * 20
    harness.channel.refunds_to_close = 2
    request = harness.start_request()
    _, handle = await harness.start(request)
    second = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")).out_trade_no
    harness.channel.trades[second].state = "USERPAYING"
    await harness.pay_and_report(handle, request.order_no)
    await harness.until(request.order_no, "authorised")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs=NEED)
    return request.order_no, handle, second


async def test_two_managers_do_not_hand_one_refund_back_twice_in_different_sums(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One saw the rest, the other the rest and a second payment: both wait for the channel, one is told no."""
    order_no, handle, second = await two_closed_in_one_run(harness)
    gate = slow_queries(harness, monkeypatch)
    rest = harness.counted_out(order_no, NEED)

    def decide(numbers: tuple[str, ...], who: str) -> asyncio.Task[CommandAnswer]:
        command = cash(numbers, who)
        return asyncio.ensure_future(
            handle.execute_update(names.UPDATE_RESOLVE, command, id=who, result_type=CommandAnswer)
        )

    one = decide(rest, "staff:1")
    await asyncio.sleep(0.3)
    harness.channel.trades[second].state = "SUCCESS"
    await harness.report(handle, second)
    for _ in range(200):
        if len(harness.counted_out(order_no, NEED)) == 2:
            break
        await asyncio.sleep(0.05)
    both = harness.counted_out(order_no, NEED)
    other = decide(both, "staff:2")
    await asyncio.sleep(0.3)
    gate.set()
    answers = [await one, await other]
    assert [(a.ok, a.code, a.returned) for a in answers] == [(True, "", rest), (False, "ALREADY_DONE", ())]
    assert harness.balance("1010.cash", order_no) == -answers[0].returned_fen == -5_300
    late = tuple(number for number in both if number not in rest)
    await harness.until(order_no, needs=NEED)
    assert (await harness.resolve(handle, ResolveAction.CASH_RETURNED, need=NEED, refund_nos=late)).ok
    await handle.result()
    assert harness.balance("1010.cash", order_no) == -5_300 - 20_000
    assert harness.balance("2040", order_no) == 0


async def test_a_retry_moves_no_cash_that_a_person_has_to_hand_back(harness: Harness) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    assert (await harness.cash(handle, 20_000)).ok
    await harness.until(request.order_no, "authorised")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="return_cash")
    for need in ("return_cash", ""):
        refused = await harness.resolve(handle, ResolveAction.RETRY_REFUND, need=need)
        assert (refused.ok, refused.code) == (False, "NOT_WAITING")
    assert harness.order(request.order_no)["needs_person"] == "return_cash"
    assert (await harness.resolve(handle, ResolveAction.CASH_RETURNED)).ok
    assert (await handle.result()).status == "completed"


async def test_a_second_click_after_a_timeout_is_told_that_all_of_it_is_booked(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The console gives every click a command of its own: nobody takes cash back from the customer that is booked."""
    order_no, runs = await two_closed_runs(harness)
    seen, commands = harness.counted_out(order_no, NEED), desk(harness)
    gate = slow_queries(harness, monkeypatch)
    monkeypatch.setattr(temporal_gateway, "UPDATE_TIMEOUT", timedelta(seconds=1))
    with pytest.raises(TemporalAwayError):
        await commands.resolve(order_no, cash(seen))
    gate.set()
    await asyncio.sleep(1.5)
    monkeypatch.setattr(temporal_gateway, "UPDATE_TIMEOUT", timedelta(seconds=15))
    answer = await commands.resolve(order_no, cash(seen))
    words = "共 294.00 元已登记为现金退还，其中 147.00 元此前已由您登记，不再重复登记"
    assert (answer.ok, answer.message) == (True, words)
    assert [await run.result() for run in runs] == ["returned", "returned"]
    assert harness.balance("1010.cash", order_no) == 14_700 - BOTH_FEN
    again = await commands.resolve(order_no, cash(seen))
    assert (again.ok, again.message) == (True, "共 294.00 元此前已由您登记为现金退还，不再重复登记")
    other = await commands.resolve(order_no, cash(seen, "staff:2"))
    assert (other.ok, other.code) == (False, "CHANGED")
    assert other.message == "294.00 元此前已由他人登记为现金退还；请收回点出的现金，刷新后核对"


async def test_cash_of_which_the_channel_paid_a_part_is_told_by_sums(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_no, runs = await two_closed_runs(harness)
    seen, commands = harness.counted_out(order_no, NEED), desk(harness)
    two = runs[1].id.removeprefix("surplus-")
    late = next(number for number in seen if number.startswith(two))
    ask = harness.channel.query_refund

    def query_refund(request: RefundRequest) -> RefundOutcome:
        if request.out_refund_no == late:
            return RefundOutcome(kind=RefundKind.SUCCEEDED, out_refund_no=late, amount_fen=14_700)
        return ask(request)

    monkeypatch.setattr(harness.channel, "query_refund", query_refund)
    answer = await commands.resolve(order_no, cash(seen))
    assert (answer.ok, answer.code) == (False, "PARTLY_DONE")
    assert answer.message.startswith("147.00 元已登记为现金退还，147.00 元"), (
        "not booked, or paid by the channel by now"
    )
    assert [await run.result() for run in runs] == ["returned", "returned"]
    told = await commands.resolve(order_no, cash(seen))
    assert told.message.startswith("147.00 元已登记为现金退还，147.00 元已由渠道退回；")
    assert harness.balance("1010.cash", order_no) == 0


def desk(harness: Harness) -> Commands:
    """The API's commands over this harness, each sent under an id of its own, as the console sends them."""
    return Commands(ClientTemporalGateway(harness.client), Database(harness.engine, threads=2))


async def test_a_second_click_while_the_first_still_waits_is_the_same_cash(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_no, handle = await rest_that_waits(harness, RefundKind.CLOSED)
    gate, seen = slow_queries(harness, monkeypatch), harness.counted_out(order_no)
    clicks = [
        asyncio.ensure_future(
            handle.execute_update(names.UPDATE_RESOLVE, cash(seen), id=name, result_type=CommandAnswer)
        )
        for name in ("first", "second")
    ]
    await asyncio.sleep(0.5)
    gate.set()
    answers = [await one for one in clicks]
    assert [(one.ok, one.returned) for one in answers] == [(True, seen), (True, seen)]
    assert sorted(one.message for one in answers) == [
        "共 53.00 元此前已由您登记为现金退还，不再重复登记",
        "已处理",
    ]
    assert (await handle.result()).status == "completed"
    assert harness.balance("1010.cash", order_no) == -5_300


async def test_what_is_booked_is_told_also_when_the_rest_may_still_be_paid(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_no, runs = await two_closed_runs(harness)
    seen, commands = harness.counted_out(order_no, NEED), desk(harness)
    assert (await commands.resolve(order_no, cash(seen[:1]))).ok
    assert await runs[0].result() == "returned"

    def unknown(request: RefundRequest) -> RefundOutcome:
        return RefundOutcome(kind=RefundKind.UNKNOWN, out_refund_no=request.out_refund_no)

    monkeypatch.setattr(harness.channel, "query_refund", unknown)
    answer = await commands.resolve(order_no, cash(seen))
    assert (answer.ok, answer.code) == (False, "PARTLY_DONE")
    assert "渠道可能仍会退款" in answer.message
    assert "147.00 元已登记为现金退还，147.00 元未登记；已登记以外的现金请收回" in answer.message
    await runs[1].terminate("end of the test")


async def test_a_number_that_is_no_refund_is_never_told_as_settled(harness: Harness) -> None:
    order_no, runs = await two_closed_runs(harness)
    seen = (*harness.counted_out(order_no, NEED), "nothing")
    answer = await desk(harness).resolve(order_no, cash(seen))
    assert (answer.ok, answer.code) == (False, "PARTLY_DONE")
    assert [await run.result() for run in runs] == ["returned", "returned"]
