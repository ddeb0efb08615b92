"""What a person decides about money on its way back: released, tried again, or handed back in cash."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from contracts.fill import CommandAnswer, ResolveAction, ResolveCommand
from contracts.names import UPDATE_RESOLVE
from contracts.payment import PaymentReported, RefundOutcome, RefundRequest
from domain import ids, policy
from domain.payment import PayMethod, RefundKind
from tests.workflows.harness import Handle, Harness
from workflows.return_surplus import ReturnSurplus

_REST_FEN = 5_300


def answers(harness: Harness, *kinds: RefundKind) -> None:
    """Make the channel answer the next refunds so."""
    harness.channel.script["refund"] = [RefundOutcome(kind=kind, out_refund_no="") for kind in kinds]


async def rest_that_waits(harness: Harness, kind: RefundKind) -> tuple[str, Handle]:
    """Fill less than was paid; the channel answers the refund of the rest so, and a person is asked."""
    answers(harness, kind)
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs=f"refund_{kind}")
    return request.order_no, handle


async def ended_sale_with_late_money(
    harness: Harness, amount_fen: int
) -> tuple[str, str, WorkflowHandle[Any, str]]:
    """A sale paid in cash whose closed QR code captures all the same; a return run looks at it."""
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    number = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")).out_trade_no
    assert (await harness.cash(handle, 14_700)).ok
    await handle.result()
    trade = harness.channel.trades[number]
    trade.state, trade.amount_fen = "SUCCESS", amount_fen
    run: WorkflowHandle[Any, str] = await harness.client.start_workflow(
        ReturnSurplus.run,
        PaymentReported(out_trade_no=number),
        id=ids.surplus_workflow_id(number),
        task_queue=harness.queue,
    )
    return order_no, number, run


async def decide(
    run: WorkflowHandle[Any, str], action: ResolveAction, refund_nos: tuple[str, ...] = ()
) -> CommandAnswer:
    """Send a decision to a return run."""
    command = ResolveCommand(actor="staff:1", action=action, note="已核对", refund_nos=refund_nos)
    answer: CommandAnswer = await run.execute_update(UPDATE_RESOLVE, command, result_type=CommandAnswer)
    return answer


def refund(harness: Harness, order_no: str) -> dict[str, Any]:
    """Return the order's only refund row."""
    return harness.row("SELECT * FROM refund WHERE order_no = :no", no=order_no)


@pytest.mark.parametrize("kind", [RefundKind.CLOSED, RefundKind.REJECTED])
async def test_a_refund_that_the_channel_never_pays_goes_back_in_cash(
    harness: Harness, kind: RefundKind
) -> None:
    order_no, handle = await rest_that_waits(harness, kind)
    assert (await harness.resolve(handle, ResolveAction.CASH_RETURNED)).ok
    assert (await handle.result()).status == "completed"
    row = refund(harness, order_no)
    assert (row["status"], row["code"], row["refund_id"]) == ("succeeded", "COUNTER", "")
    assert harness.balance("1010.cash", order_no) == -_REST_FEN
    assert harness.balance("1010.wechat", order_no) == 20_000
    assert harness.balance("2040", order_no) == 0
    assert harness.channel.count("refund") == 1
    story = harness.rows("SELECT * FROM order_event WHERE order_no = :no AND kind = 'refunded'", no=order_no)
    assert [(one["actor"], "已退现金" in one["detail"]) for one in story] == [("staff:1", True)]


async def test_no_cash_for_a_refund_that_the_channel_may_still_pay(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_no, handle = await rest_that_waits(harness, RefundKind.ABNORMAL)
    refused = await harness.resolve(handle, ResolveAction.CASH_RETURNED)
    assert (refused.ok, refused.code) == (False, "NOT_WAITING")
    answers(harness, RefundKind.CLOSED)
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    await harness.until(order_no, "dispensed", needs="refund_closed")

    def unknown(request: RefundRequest) -> RefundOutcome:
        return RefundOutcome(kind=RefundKind.UNKNOWN, out_refund_no=request.out_refund_no)

    with monkeypatch.context() as patch:
        patch.setattr(harness.channel, "query_refund", unknown)
        refused = await harness.resolve(handle, ResolveAction.CASH_RETURNED)
    assert (refused.ok, refused.code) == (False, "CHANNEL_MAY_PAY")
    assert harness.balance("1010.cash", order_no) == 0
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(order_no)


async def test_a_decision_about_another_need_moves_nothing(harness: Harness) -> None:
    """The manager's form says refund closed, 200 yuan; meanwhile the order asks for 53 yuan of cash to hand back."""
    request = harness.start_request()
    _, handle = await harness.start(request)
    assert (await harness.cash(handle, 20_000)).ok
    await harness.until(request.order_no, "authorised")
    late = ids.out_trade_no(request.order_no, 1)
    harness.channel.trades[late].state = "SUCCESS"
    harness.channel.refunds_to_close = 1
    await harness.report(handle, late)
    await harness.until(request.order_no, "authorised", needs="refund_closed")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="return_cash")
    for action in ResolveAction:
        refused = await harness.resolve(handle, action, need="refund_closed", amount_fen=1)
        assert (refused.ok, refused.code) == (False, "CHANGED")
        assert refused.message == "情况已变化，请刷新后再处理"
    assert harness.order(request.order_no)["refunded_fen"] == 0
    assert (
        await harness.resolve(handle, ResolveAction.CASH_RETURNED, need="return_cash", by_cashier=True)
    ).ok
    await harness.until(request.order_no, "completed", needs="refund_closed")
    refused = await harness.resolve(
        handle, ResolveAction.CASH_RETURNED, need="refund_closed", by_cashier=True
    )
    assert refused.code == "MANAGER_NEEDED"
    assert (await harness.resolve(handle, ResolveAction.CASH_RETURNED, need="refund_closed")).ok
    await handle.result()
    assert harness.balance("1010.cash", request.order_no) == 20_000 - _REST_FEN - 20_000
    assert harness.balance("2040", request.order_no) == 0


async def test_a_refund_that_is_with_the_channel_again_is_no_closed_one_any_more(harness: Harness) -> None:
    order_no, handle = await rest_that_waits(harness, RefundKind.REJECTED)
    answers(harness, RefundKind.UNKNOWN)
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND, need="refund_rejected")).ok
    await harness.until(order_no, "dispensed", needs="")
    for _ in range(100):
        if refund(harness, order_no)["status"] == "processing":
            break
        await asyncio.sleep(0.05)
    assert refund(harness, order_no)["status"] == "processing"


async def test_a_refund_that_finance_paid_meanwhile_is_not_handed_back_too(harness: Harness) -> None:
    order_no, handle = await rest_that_waits(harness, RefundKind.CLOSED)
    number = ids.out_trade_no(order_no, 1)
    harness.channel.trades[number].refunds[ids.out_refund_no(number, "rest")] = _REST_FEN
    refused = await harness.resolve(handle, ResolveAction.CASH_RETURNED)
    assert (refused.ok, refused.code) == (False, "CHANNEL_MAY_PAY")
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(order_no)


async def test_a_return_run_takes_a_persons_decision(harness: Harness) -> None:
    answers(harness, RefundKind.ABNORMAL, RefundKind.CLOSED)
    order_no, _, run = await ended_sale_with_late_money(harness, 14_700)
    await harness.until(order_no, "completed", needs="refund_abnormal")
    assert (await decide(run, ResolveAction.COLLECT_CASH)).code == "NOT_WAITING"
    assert (await decide(run, ResolveAction.RETRY_REFUND)).ok
    await harness.until(order_no, "completed", needs="refund_closed")
    assert (await decide(run, ResolveAction.CASH_RETURNED, harness.counted_out(order_no))).ok
    assert await run.result() == "returned"
    assert harness.order(order_no)["needs_person"] == ""
    assert harness.balance("2040", order_no) == harness.balance("1010.cash", order_no) == 0


async def test_a_wrong_amount_after_the_order_ended_is_held_for_a_person(harness: Harness) -> None:
    order_no, number, run = await ended_sale_with_late_money(harness, 1)
    await harness.until(order_no, "completed", needs="payment_amount_mismatch")
    await asyncio.sleep(0.3)
    assert (refund(harness, order_no)["status"], harness.channel.count("refund")) == ("held", 0)
    assert (
        await decide(run, ResolveAction.CASH_RETURNED, harness.counted_out(order_no))
    ).code == "NOT_WAITING"
    assert (await decide(run, ResolveAction.RETRY_REFUND)).code == "NOT_WAITING"
    assert (await decide(run, ResolveAction.RELEASE_HELD)).ok
    assert await run.result() == "returned"
    assert harness.channel.trades[number].refunds == {ids.out_refund_no(number, "mismatch"): 1}
    assert harness.order(order_no)["needs_person"] == ""


async def test_a_decision_about_the_sale_comes_first_and_the_held_money_is_asked_for_again(
    harness: Harness,
) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    wrong = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")).out_trade_no
    await harness.pay_and_report(handle, request.order_no)
    await harness.until(request.order_no, "authorised")
    harness.channel.trades[wrong].state = "SUCCESS"
    harness.channel.trades[wrong].amount_fen = 1
    await harness.complete(handle, harness.sale(order_no=request.order_no, amount_fen=99_900))
    await harness.until(request.order_no, "authorised", needs="amount_mismatch")
    await harness.report(handle, wrong)
    for _ in range(100):
        if harness.order(request.order_no)["surplus_fen"]:
            break
        await asyncio.sleep(0.05)
    assert harness.order(request.order_no)["needs_person"] == "amount_mismatch"
    assert (await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)).ok
    await harness.until(request.order_no, "completed", needs="payment_amount_mismatch")
    assert (await harness.resolve(handle, ResolveAction.RELEASE_HELD)).ok
    await handle.result()
    assert harness.order(request.order_no)["needs_person"] == ""
    harness.assert_money_closed(request.order_no)


async def twice_at_once(own: Harness, handle: Handle) -> list[bool]:
    """Two cashiers confirm the same cash in one workflow task, as when a worker restarts."""
    both = [
        asyncio.ensure_future(own.resolve(handle, ResolveAction.CASH_RETURNED, actor=actor))
        for actor in ("staff:1", "staff:2")
    ]
    await asyncio.sleep(0.7)
    async with own.worker():
        found = await asyncio.gather(*both)
        await handle.result()
    assert [one.message for one in found if not one.ok] == ["已由他人处理"]
    return sorted(one.ok for one in found)


async def test_cash_is_handed_back_once(harness: Harness) -> None:
    own = harness.on_own_queue()
    async with own.worker():
        request = own.start_request(method=PayMethod.CASH, driver_id=None, cashier_id=1)
        _, handle = await own.start(request)
        await own.until(request.order_no, "authorised")
        await own.complete(handle, own.sale(order_no=request.order_no))
        await own.until(request.order_no, "dispensed", needs="return_cash")
    assert await twice_at_once(own, handle) == [False, True]


async def test_a_refused_refund_is_handed_back_once(harness: Harness) -> None:
    own = harness.on_own_queue()
    async with own.worker():
        _, handle = await rest_that_waits(own, RefundKind.CLOSED)
    assert await twice_at_once(own, handle) == [False, True]


async def test_a_refund_without_balance_is_tried_again_by_itself_less_and_less_often(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = (timedelta(milliseconds=50), timedelta(milliseconds=100))
    monkeypatch.setattr(policy, "SHORT_BALANCE_LADDER", waits)
    answers(harness, *[RefundKind.INSUFFICIENT] * 3)
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    assert (await handle.result()).status == "completed"
    history = await handle.fetch_history()
    timers = [
        e.timer_started_event_attributes
        for e in history.events
        if e.HasField("timer_started_event_attributes")
    ]
    patience = [one.start_to_fire_timeout.ToTimedelta() for one in timers]
    assert [one for one in patience if one in waits] == [waits[0], waits[1], waits[1]]
    number = ids.out_refund_no(ids.out_trade_no(request.order_no, 1), "rest")
    assert harness.channel.trades[ids.out_trade_no(request.order_no, 1)].refunds == {number: _REST_FEN}
    harness.assert_money_closed(request.order_no)
