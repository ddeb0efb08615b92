"""What an outside auditor tried to break: each test is one way in which money or fuel could have gone astray."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import text
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from contracts.fill import CommandAnswer, PayState, ResolveAction
from contracts.payment import CloseOutcome, PaymentOutcome, PaymentReported, RefundOutcome, RefundRequest
from contracts.station import CommandResult, CommandState
from domain import ids, policy
from domain.payment import CloseKind, OutcomeKind, PayMethod, RefundKind
from tests.workflows.harness import Harness
from tests.workflows.test_deadlines import finish, skip
from workflows.fill_and_pay import FillAndPay
from workflows.return_surplus import ReturnSurplus


def slowly(harness: Harness, times: int) -> Callable[[RefundRequest], RefundOutcome]:
    """Return a refund query that says PROCESSING so often, then the truth."""
    ask, left = harness.channel.refund, iter(range(times))

    def query(request: RefundRequest) -> RefundOutcome:
        if next(left, None) is None:
            harness.channel.query_refund = type(harness.channel).query_refund.__get__(harness.channel)  # type: ignore[method-assign]
            return ask(request)
        return RefundOutcome(kind=RefundKind.PROCESSING, out_refund_no=request.out_refund_no)

    return query


async def both(
    harness: Harness,
    order_no: str,
    first: Callable[[], Awaitable[CommandAnswer]],
    second: Callable[[], Awaitable[CommandAnswer]],
) -> list[CommandAnswer]:
    """Send two commands so that the second arrives while the first one's transaction waits for the row."""
    with harness.engine.begin() as db:
        db.execute(text("SELECT 1 FROM fuel_order WHERE order_no = :no FOR UPDATE"), {"no": order_no})
        one = asyncio.ensure_future(first())
        await asyncio.sleep(0.5)
        two = asyncio.ensure_future(second())
        await asyncio.sleep(3)
    return list(await asyncio.wait_for(asyncio.gather(one, two), 10))


async def test_cancel_after_a_flagged_sale_keeps_the_money_for_the_decision(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no, amount_fen=99_900))
    await harness.until(request.order_no, "authorised", needs="amount_mismatch")
    harness.stations.stop_answer = (CommandState.REFUSED, "NOT_AUTHORISED")
    answer = await harness.cancel(handle)
    assert not answer.ok
    assert harness.channel.count("refund") == 0
    assert (await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)).ok
    assert (await handle.result()).charge_fen == 14_700
    harness.assert_money_closed(request.order_no)


async def test_an_unknown_reported_late_is_no_verdict(harness: Harness) -> None:
    harness.stations.silent = True
    request, handle = await harness.start_paid()
    await harness.until(request.order_no, "paid", needs="dispenser_unanswered")
    command = ids.authorise_command_id(request.order_no)

    def result(state: CommandState) -> CommandResult:
        return CommandResult(command_id=command, order_no=request.order_no, state=state, code="NO_ANSWER")

    await handle.signal(FillAndPay.command_reported, result(CommandState.UNKNOWN))
    await asyncio.sleep(1)
    await handle.signal(FillAndPay.command_reported, result(CommandState.ACCEPTED))
    await harness.until(request.order_no, "authorised")


async def test_cancel_while_the_payment_is_being_posted(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "task_timeout", timedelta(seconds=2))
    request = harness.start_request()
    _, handle = await harness.start(request)
    with harness.engine.begin() as db:
        db.execute(text("SELECT 1 FROM fuel_order WHERE order_no = :no FOR UPDATE"), {"no": request.order_no})
        await harness.pay_and_report(handle, request.order_no)
        await asyncio.sleep(0.5)
        cancel = asyncio.create_task(harness.cancel(handle))
        await asyncio.sleep(3)
    answer = await asyncio.wait_for(cancel, 10)
    assert (answer.ok, answer.code) == (False, "ALREADY_PAID")
    await harness.until(request.order_no, "authorised")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(request.order_no)


async def test_nothing_dispensed_while_the_sale_is_being_settled(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "task_timeout", timedelta(seconds=2))
    monkeypatch.setattr(policy, "AUTHORISE_EXPIRY", timedelta(seconds=1))
    harness.stations.silent = True
    request, handle = await harness.start_paid()
    await harness.until(request.order_no, "paid", needs="dispenser_unanswered")
    with harness.engine.begin() as db:
        db.execute(text("SELECT 1 FROM fuel_order WHERE order_no = :no FOR UPDATE"), {"no": request.order_no})
        await harness.complete(handle, harness.sale(order_no=request.order_no))
        await asyncio.sleep(0.5)
        decide = asyncio.create_task(harness.resolve(handle, ResolveAction.NOTHING_DISPENSED))
        await asyncio.sleep(3)
    assert not (await asyncio.wait_for(decide, 10)).ok
    assert (await asyncio.wait_for(handle.result(), 10)).charge_fen == 14_700
    harness.assert_money_closed(request.order_no)


async def test_a_refused_code_that_captured_late_is_not_reversed_once_it_counts(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "CODE_REVERSE_NOT_BEFORE", timedelta(seconds=1))
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    answer = await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000001")
    assert answer.state is PayState.FAILED
    number = ids.out_trade_no(order_no, 1)
    harness.channel.trades[number].state = "SUCCESS"
    await harness.report(handle, number)
    await handle.result()
    assert harness.channel.net_of(order_no) == 14_700
    harness.assert_money_closed(order_no)


async def test_a_slow_refund_asks_for_nobody_once_it_is_done(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "REFUND_QUERY_LADDER", (timedelta(milliseconds=50),))
    slow = RefundOutcome(kind=RefundKind.PROCESSING, out_refund_no="")
    harness.channel.script["refund"] = [slow]
    monkeypatch.setattr(harness.channel, "query_refund", slowly(harness, 7))
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await handle.result()
    assert harness.order(request.order_no)["needs_person"] == ""


async def test_a_finished_refund_leaves_a_flagged_sale_to_its_person(harness: Harness) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")
    first, second = ids.out_trade_no(request.order_no, 1), ids.out_trade_no(request.order_no, 2)
    harness.channel.customer_pays(first)
    harness.channel.customer_pays(second)
    harness.channel.script["refund"] = [RefundOutcome(kind=RefundKind.INSUFFICIENT, out_refund_no="")]
    await harness.report(handle, first)
    await harness.until(request.order_no, "authorised", needs="refund_balance_short")
    await harness.complete(handle, harness.sale(order_no=request.order_no, amount_fen=99_900))
    await harness.until(request.order_no, "authorised", needs="amount_mismatch")
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    await asyncio.sleep(0.5)
    assert (await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)).ok
    assert (await handle.result()).charge_fen == 14_700
    harness.assert_money_closed(request.order_no)


async def test_a_refund_that_finance_mended_at_the_channel_ends_by_its_report(harness: Harness) -> None:
    harness.channel.script["refund"] = [RefundOutcome(kind=RefundKind.ABNORMAL, out_refund_no="")]
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="refund_abnormal")
    number = ids.out_trade_no(request.order_no, 1)
    report = PaymentReported(out_trade_no=number, out_refund_no=ids.out_refund_no(number, "rest"))
    await handle.signal(FillAndPay.payment_reported, report)
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(request.order_no)


async def test_a_surplus_is_asked_about_until_the_channel_knows(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    assert (await finish(time_skipping_env, handle)).status == "expired"
    number = ids.out_trade_no(request.order_no, 1)
    skipping.channel.trades[number].state = "SUCCESS"
    unknown = PaymentOutcome(kind=OutcomeKind.UNKNOWN, out_trade_no="")
    skipping.channel.script["query"] = [unknown] * (len(policy.PAYMENT_QUERY_LADDER) + 3)
    outcome = await skipping.client.execute_workflow(
        ReturnSurplus.run,
        PaymentReported(out_trade_no=number),
        id=ids.surplus_workflow_id(number),
        task_queue=skipping.queue,
    )
    assert outcome == "returned"
    skipping.assert_money_closed(request.order_no)


async def test_money_of_a_wrong_amount_goes_back_once_a_person_says_so(
    harness: Harness,
) -> None:
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")
    number = ids.out_trade_no(order_no, 1)
    harness.channel.trades[number].amount_fen = 1
    harness.channel.customer_pays(number)
    await harness.report(handle, number)
    await harness.until(order_no, "unpaid", needs="payment_amount_mismatch")
    assert (await harness.cash(handle, 14_700)).ok
    await harness.until(order_no, "completed", needs="payment_amount_mismatch")
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    assert harness.channel.count("refund") == 0
    assert (await harness.resolve(handle, ResolveAction.RELEASE_HELD)).ok
    await handle.result()
    assert harness.order(order_no)["needs_person"] == ""
    assert harness.channel.trades[number].refunds == {ids.out_refund_no(number, "mismatch"): 1}
    harness.assert_money_closed(order_no)


async def test_two_people_decide_one_shortfall_and_one_of_them_is_told(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "task_timeout", timedelta(seconds=2))
    request, handle = await harness.start_authorised(amount_fen=10_000)
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="shortfall")
    answers = await both(
        harness,
        request.order_no,
        lambda: harness.resolve(handle, ResolveAction.WRITE_OFF),
        lambda: harness.resolve(handle, ResolveAction.COLLECT_CASH),
    )
    assert [a.ok for a in answers] == [True, False]
    await handle.result()
    assert (harness.balance("5060", request.order_no), harness.balance("1090", request.order_no)) == (
        4_700,
        0,
    )


async def test_two_people_decide_one_amount_and_the_first_decision_stands(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "task_timeout", timedelta(seconds=2))
    sale = harness.sale(amount_fen=99_900)
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid", needs="amount_mismatch")
    answers = await both(
        harness,
        order_no,
        lambda: harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700),
        lambda: harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_600),
    )
    assert [a.ok for a in answers] == [True, False]
    assert (await harness.cash(handle, 14_700)).ok
    await handle.result()
    harness.assert_money_closed(order_no)


async def test_a_sale_of_another_station_never_settles_this_order(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    foreign = harness.sale(order_no=request.order_no, station_code="ST999", quantity_milli=0, amount_fen=0)
    await harness.complete(handle, foreign)
    await asyncio.sleep(0.5)
    assert harness.order(request.order_no)["status"] == "authorised"
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    assert (await handle.result()).charge_fen == 14_700


async def test_a_close_that_stays_unknown_is_tried_ever_more_seldom(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    unknown = CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no="")
    skipping.channel.script["close"] = [unknown] * 200
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    await skip(time_skipping_env, skipping, timedelta(hours=5))
    assert skipping.order(request.order_no)["needs_person"] == "close_unconfirmed"
    assert skipping.channel.count("close") < 40
    skipping.channel.script["close"] = []
    assert (await skipping.cancel(handle)).ok
    assert (await handle.result()).status == "cancelled"
