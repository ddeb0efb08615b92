"""Money of a wrong amount is held: one decision of its own releases it, and no decision about another refund does."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from api.auth.roles import Role
from api.commands import may_resolve
from api.temporal_gateway import ClientTemporalGateway
from contracts.fill import CommandAnswer, ResolveAction, ResolveCommand
from contracts.names import SearchAttribute
from contracts.payment import CloseOutcome, PaymentReported, RefundOutcome, RefundRequest
from domain import ids, policy
from domain.payment import CloseKind, PayMethod, RefundKind
from tests.workflows.harness import Harness
from tests.workflows.test_refund_decisions import rest_that_waits
from workflows.return_surplus import ReturnSurplus

Run = WorkflowHandle[ReturnSurplus, str]


async def two_late_payments(harness: Harness, second_fen: int) -> tuple[str, str, str]:
    """A sale paid in cash; two QR codes of it capture after the order's end, the second one a wrong amount."""
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    one = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")).out_trade_no
    two = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")).out_trade_no
    assert (await harness.cash(handle, 14_700)).ok
    await handle.result()
    harness.channel.trades[one].state = harness.channel.trades[two].state = "SUCCESS"
    harness.channel.trades[two].amount_fen = second_fen
    return order_no, one, two


async def give_back(harness: Harness, order_no: str, number: str) -> Run:
    """Start the return of a payment as the API does, so that decisions find it by its order."""
    key = SearchAttributeKey.for_keyword(SearchAttribute.BUSINESS_NO)
    return await harness.client.start_workflow(
        ReturnSurplus.run,
        PaymentReported(out_trade_no=number),
        id=ids.surplus_workflow_id(number),
        task_queue=harness.queue,
        task_timeout=harness.task_timeout,
        search_attributes=TypedSearchAttributes([SearchAttributePair(key, order_no)]),
    )


async def closed_refunds(harness: Harness, order_no: str, count: int) -> None:
    """Wait until so many refunds are closed and the lists of runs know who waits."""
    while (
        len(harness.rows("SELECT 1 FROM refund WHERE order_no = :n AND status = 'closed'", n=order_no))
        < count
    ):
        await asyncio.sleep(0.05)
    await asyncio.sleep(1.5)


async def two_closed_runs(harness: Harness) -> tuple[str, list[Run]]:
    """An ended sale whose two late payments could not be returned by the channel; each has a run of its own."""
    order_no, one, two = await two_late_payments(harness, second_fen=14_700)
    harness.channel.refunds_to_close = 2
    runs = [await give_back(harness, order_no, number) for number in (one, two)]
    await closed_refunds(harness, order_no, 2)
    return order_no, runs


async def abnormal_and_held(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str, str, Run, Run]:
    """Two returns of one order: the bank refuses the first one's refund after the second one's money was held."""
    order_no, one, two = await two_late_payments(harness, second_fen=1)
    harness.channel.script["refund"] = [RefundOutcome(kind=RefundKind.PROCESSING, out_refund_no="")]
    ask = harness.channel.query_refund

    def query_refund(request: RefundRequest) -> RefundOutcome:
        if request.out_trade_no == one:
            return RefundOutcome(kind=RefundKind.ABNORMAL, out_refund_no=request.out_refund_no)
        return ask(request)

    monkeypatch.setattr(harness.channel, "query_refund", query_refund)
    first = await give_back(harness, order_no, one)
    for _ in range(100):
        if harness.channel.count("refund"):
            break
        await asyncio.sleep(0.05)
    second = await give_back(harness, order_no, two)
    await harness.until(order_no, "completed", needs="payment_amount_mismatch")
    number = ids.out_refund_no(one, "surplus")
    await first.signal(
        ReturnSurplus.payment_reported, PaymentReported(out_trade_no=one, out_refund_no=number)
    )
    await harness.until(order_no, "completed", needs="refund_abnormal")
    return order_no, one, two, first, second


async def routed(
    harness: Harness,
    order_no: str,
    action: ResolveAction,
    need: str = "",
    counted: tuple[str, ...] | None = None,
) -> CommandAnswer:
    """Send a decision by the order's number, as the API does; cash is the sum asked for now, or of the refunds given."""
    refunds = harness.counted_out(order_no, need) if counted is None else counted
    command = ResolveCommand(actor="staff:1", action=action, note="已核对", need=need, refund_nos=refunds)
    return await ClientTemporalGateway(harness.client).resolve(
        order_no, command, f"{action}-{need}-{order_no}"
    )


async def ended(*runs: WorkflowHandle[Any, str]) -> None:
    """Terminate what a test leaves open on purpose."""
    for run in runs:
        await run.terminate("end of the test")


async def test_a_retry_of_one_refund_does_not_release_held_money_of_another_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_no, _, two, first, second = await abnormal_and_held(harness, monkeypatch)
    await asyncio.sleep(1.5)  # the list of open runs is eventually consistent
    asked = harness.channel.count("refund")
    assert (await routed(harness, order_no, ResolveAction.RETRY_REFUND)).ok
    for _ in range(100):
        if harness.channel.count("refund") > asked:
            break
        await asyncio.sleep(0.05)
    assert harness.channel.trades[two].refunds == {}
    held = harness.row("SELECT status FROM refund WHERE out_trade_no = :no", no=two)
    assert held["status"] == "held"
    await ended(first, second)


async def test_a_stale_retry_does_not_release_held_money(harness: Harness) -> None:
    """The form said refund_abnormal; meanwhile held money became the order's need."""
    unknown = CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no="")
    harness.channel.script["close"] = [unknown] * 20
    harness.channel.script["refund"] = [RefundOutcome(kind=RefundKind.ABNORMAL, out_refund_no="")]
    request = harness.start_request()
    _, handle = await harness.start(request)
    wrong = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")).out_trade_no
    trade = harness.channel.trades[wrong]
    trade.state, trade.amount_fen = "USERPAYING", 1
    await harness.pay_and_report(handle, request.order_no)
    await harness.until(request.order_no, "authorised")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="refund_abnormal")
    trade.state = "SUCCESS"
    await harness.report(handle, wrong)
    await harness.until(request.order_no, "dispensed", needs="payment_amount_mismatch")
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    await harness.until(request.order_no, "completed")
    assert trade.refunds == {}
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).code == "NOT_WAITING"
    assert (await harness.resolve(handle, ResolveAction.RELEASE_HELD)).ok
    await handle.result()
    assert trade.refunds == {ids.out_refund_no(wrong, "mismatch"): 1}
    harness.assert_money_closed(request.order_no)


async def test_what_one_return_run_waits_for_is_asked_for_again_when_another_is_settled(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "NEED_LOOK_LADDER", (timedelta(milliseconds=300),))
    order_no, one, two = await two_late_payments(harness, second_fen=1)
    harness.channel.refunds_to_close = 1
    first = await give_back(harness, order_no, one)
    await harness.until(order_no, "completed", needs="refund_closed")
    second = await give_back(harness, order_no, two)
    await harness.until(order_no, "completed", needs="payment_amount_mismatch")
    await asyncio.sleep(1.5)  # the list of open runs is eventually consistent
    assert (await routed(harness, order_no, ResolveAction.CASH_RETURNED, "return_cash")).code == "CHANGED"
    assert (await routed(harness, order_no, ResolveAction.RELEASE_HELD, "payment_amount_mismatch")).ok
    assert await second.result() == "returned"
    await harness.until(order_no, "completed", needs="refund_closed")
    assert (await routed(harness, order_no, ResolveAction.CASH_RETURNED, "refund_closed")).ok
    assert await first.result() == "returned"
    assert harness.order(order_no)["needs_person"] == ""
    assert harness.balance("2040", order_no) == 0


async def test_cash_for_the_closed_refunds_of_two_runs_settles_both(harness: Harness) -> None:
    """The form shows the sum of both, and the person counts it out once."""
    order_no, runs = await two_closed_runs(harness)
    assert (await routed(harness, order_no, ResolveAction.CASH_RETURNED, "refund_closed")).ok
    assert [await run.result() for run in runs] == ["returned", "returned"]
    assert harness.balance("1010.cash", order_no) == 14_700 - 2 * 14_700
    assert harness.balance("2040", order_no) == 0


def test_a_cashier_may_not_release_held_money() -> None:
    release = ResolveAction.RELEASE_HELD
    allowed = {role for role in Role if may_resolve(role, release)}
    assert allowed == {Role.MANAGER, Role.OPERATOR, Role.ADMIN}


async def test_a_cashier_turns_no_refund_of_a_channel_into_cash(harness: Harness) -> None:
    cash = ResolveAction.CASH_RETURNED
    assert may_resolve(Role.CASHIER, cash, "return_cash")
    assert not may_resolve(Role.CASHIER, cash, "refund_closed")
    assert may_resolve(Role.MANAGER, cash, "refund_closed")
    _, handle = await rest_that_waits(harness, RefundKind.CLOSED)
    refused = await harness.resolve(handle, cash, by_cashier=True)
    assert (refused.ok, refused.code) == (False, "MANAGER_NEEDED")
    assert (await harness.resolve(handle, cash)).ok
    assert (await handle.result()).status == "completed"


async def test_a_repeated_decision_gets_its_first_answer_from_an_ended_return_run(harness: Harness) -> None:
    order_no, one, _ = await two_late_payments(harness, second_fen=14_700)
    harness.channel.refunds_to_close = 1
    run = await give_back(harness, order_no, one)
    await closed_refunds(harness, order_no, 1)
    first = await routed(harness, order_no, ResolveAction.CASH_RETURNED, "refund_closed")
    assert first.ok
    assert await run.result() == "returned"
    await asyncio.sleep(1.5)
    assert await routed(harness, order_no, ResolveAction.CASH_RETURNED, "refund_closed") == first


async def test_a_slow_refund_of_one_run_hides_no_closed_one_of_another(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "NEED_LOOK_LADDER", (timedelta(seconds=2),))
    monkeypatch.setattr(policy, "REFUND_QUERY_LADDER", (timedelta(milliseconds=50),))
    order_no, one, two = await two_late_payments(harness, second_fen=14_700)
    stands = {one: RefundKind.ABNORMAL, two: RefundKind.CLOSED}

    def answer(request: RefundRequest) -> RefundOutcome:
        return RefundOutcome(kind=stands[request.out_trade_no], out_refund_no=request.out_refund_no)

    monkeypatch.setattr(harness.channel, "query_refund", answer)
    monkeypatch.setattr(harness.channel, "refund", answer)
    closed = await give_back(harness, order_no, two)
    await harness.until(order_no, "completed", needs="refund_closed")
    slow = await give_back(harness, order_no, one)
    await harness.until(order_no, "completed", needs="refund_abnormal")
    stands[one] = RefundKind.PROCESSING
    await asyncio.sleep(1.5)  # the list of runs is eventually consistent
    await routed(harness, order_no, ResolveAction.RETRY_REFUND, "refund_abnormal")
    await asyncio.sleep(1)  # by now the slow one has asked
    await harness.until(order_no, "completed", needs="refund_closed")
    for run in (closed, slow):
        await run.terminate("end of the test")
