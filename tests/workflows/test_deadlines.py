"""Deadlines on a server that skips time: expiry, late money, forgotten notifications, the pay code's reversal."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from contracts.fill import FillResult, PayState
from contracts.payment import CloseOutcome, PaymentOutcome, PaymentReported
from domain import ids, policy
from domain.payment import CloseKind, OutcomeKind, PayMethod
from tests.workflows.harness import Handle, Harness
from workflows.return_surplus import ReturnSurplus


async def finish(env: WorkflowEnvironment, handle: Handle) -> FillResult:
    """Let time pass in steps until the order has ended."""
    for _ in range(300):
        if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
            return await handle.result()
        await env.sleep(timedelta(seconds=7))
    raise AssertionError("the order did not end")


async def reach(env: WorkflowEnvironment, harness: Harness, order_no: str, status: str) -> None:
    """Let time pass in steps until the order has a status."""
    for _ in range(300):
        if harness.order(order_no)["status"] == status:
            return
        await env.sleep(timedelta(seconds=3))
    raise AssertionError(f"the order did not become {status}")


async def skip(env: WorkflowEnvironment, harness: Harness, by: timedelta) -> None:
    """Let workflow time and the activities' clock pass together."""
    harness.clock.offset += by
    await env.sleep(by)


async def test_unpaid_order_expires_after_the_channel_confirmed(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    assert (await finish(time_skipping_env, handle)).status == "expired"
    number = ids.out_trade_no(request.order_no, 1)
    assert skipping.channel.trades[number].state == "CLOSED"
    assert skipping.rows("SELECT 1 FROM fuelling_point WHERE holder_order_no = :n", n=request.order_no) == []


async def test_lost_notification_is_found_by_asking(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    skipping.channel.customer_pays(ids.out_trade_no(request.order_no, 1))
    await reach(time_skipping_env, skipping, request.order_no, "authorised")
    await skipping.complete(handle, skipping.sale(order_no=request.order_no))
    assert (await finish(time_skipping_env, handle)).status == "completed"
    skipping.assert_money_closed(request.order_no)


@pytest.mark.feature("N17")
async def test_late_money_finds_the_nozzle_free(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    await skip(time_skipping_env, skipping, policy.NOZZLE_HOLD + timedelta(seconds=30))
    await skipping.pay_and_report(handle, request.order_no)
    await skipping.until(request.order_no, "authorised")
    await reach(time_skipping_env, skipping, request.order_no, "authorised")
    await skipping.complete(handle, skipping.sale(order_no=request.order_no))
    assert (await finish(time_skipping_env, handle)).status == "completed"


@pytest.mark.feature("N17")
async def test_late_money_finds_the_nozzle_taken_and_goes_back(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    await skip(time_skipping_env, skipping, policy.NOZZLE_HOLD + timedelta(seconds=30))
    skipping.station_seen()
    other = skipping.start_request()
    with_hold = skipping.rows("SELECT 1 FROM fuelling_point WHERE holder_order_no IS NOT NULL")
    assert with_hold == []
    await skipping.start(other)
    await skipping.pay_and_report(handle, request.order_no)
    assert (await finish(time_skipping_env, handle)).status == "refunded"
    assert request.order_no not in skipping.stations.authorised
    assert skipping.channel.net_of(request.order_no) == 0
    skipping.assert_money_closed(request.order_no)


@pytest.mark.feature("N17")
async def test_money_at_the_moment_of_expiry_is_honoured(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    skipping.channel.pay_on_close.add(ids.out_trade_no(request.order_no, 1))
    await reach(time_skipping_env, skipping, request.order_no, "authorised")
    await skipping.complete(handle, skipping.sale(order_no=request.order_no))
    assert (await finish(time_skipping_env, handle)).status == "completed"
    skipping.assert_money_closed(request.order_no)


@pytest.mark.feature("N17")
async def test_money_after_the_process_ended_goes_back_once(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    assert (await finish(time_skipping_env, handle)).status == "expired"
    number = ids.out_trade_no(request.order_no, 1)
    trade = skipping.channel.trades[number]
    trade.state = "SUCCESS"
    for again in range(2):
        outcome = await skipping.client.execute_workflow(
            ReturnSurplus.run,
            PaymentReported(out_trade_no=number),
            id=f"{ids.surplus_workflow_id(number)}-{again}",
            task_queue=skipping.queue,
        )
        assert outcome == "returned"
    row = skipping.order(request.order_no)
    assert (row["surplus_fen"], row["refunded_fen"]) == (20_000, 20_000)
    assert skipping.channel.net_of(request.order_no) == 0
    skipping.assert_money_closed(request.order_no)


async def test_unknown_close_is_never_an_expiry(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    unknown = CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no="")
    skipping.channel.script["close"] = [unknown] * 5
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    assert (await finish(time_skipping_env, handle)).status == "expired"
    assert skipping.channel.count("close") == 6


async def test_payment_unavailable_ends_the_order(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    skipping.channel.script["create"] = ["lost_before"] * 4
    request = skipping.start_request()
    started = asyncio.create_task(skipping.start(request))
    while not started.done():
        await time_skipping_env.sleep(timedelta(seconds=1))
    answer, handle = await started
    assert answer.outcome == "payment_unavailable"
    assert (await finish(time_skipping_env, handle)).status == "expired"


@pytest.mark.feature("000-3")
async def test_pay_code_that_stays_unconfirmed_is_reversed(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    sale = skipping.sale()
    handle = await skipping.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    answer = await skipping.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000010")
    assert answer.state is PayState.WAITING
    await skip(time_skipping_env, skipping, policy.CODE_QUERY_LIMIT + timedelta(seconds=15))
    assert skipping.channel.trades[ids.out_trade_no(order_no, 1)].state == "REVOKED"
    assert 5 <= skipping.channel.count("query") <= 12
    assert (await skipping.cash(handle, 14_700)).ok
    assert (await finish(time_skipping_env, handle)).status == "completed"
    assert skipping.channel.net_of(order_no) == 14_700


async def test_forgotten_sale_asks_for_a_person_and_still_takes_money(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    sale = skipping.sale()
    handle = await skipping.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await skip(time_skipping_env, skipping, policy.UNPAID_ATTENTION_AFTER + timedelta(minutes=1))
    await skipping.until(order_no, "unpaid", needs="unpaid_too_long")
    assert (await skipping.cash(handle, 14_700)).ok
    assert (await finish(time_skipping_env, handle)).status == "completed"
    assert skipping.order(order_no)["needs_person"] == ""


async def test_unanswered_payment_query_is_not_a_failure(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    unknown = PaymentOutcome(kind=OutcomeKind.UNKNOWN, out_trade_no="")
    skipping.channel.script["query"] = [unknown, unknown]
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    await skipping.pay_and_report(handle, request.order_no)
    await reach(time_skipping_env, skipping, request.order_no, "authorised")
    await skipping.complete(handle, skipping.sale(order_no=request.order_no))
    assert (await finish(time_skipping_env, handle)).status == "completed"
    skipping.assert_money_closed(request.order_no)


async def test_authorised_order_without_a_sale_asks_for_a_person(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    request, handle = await skipping.start_authorised()
    await skip(time_skipping_env, skipping, policy.FILL_ATTENTION_AFTER + timedelta(minutes=1))
    row = await skipping.until(request.order_no, "authorised", needs="fill_not_reported")
    assert row["refunded_fen"] == 0
    await skipping.complete(handle, skipping.sale(order_no=request.order_no, offline=True))
    assert (await finish(time_skipping_env, handle)).charge_fen == 14_700


async def test_an_expired_code_of_an_unpaid_sale_is_closed_and_not_asked_about_for_ever(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    sale = skipping.sale()
    handle = await skipping.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await skipping.until(order_no, "unpaid")
    first = (await skipping.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")).out_trade_no
    await skip(time_skipping_env, skipping, timedelta(hours=1))
    looks = skipping.channel.count("query")
    assert looks < 8
    assert skipping.channel.trades[first].state == "CLOSED"
    await skip(time_skipping_env, skipping, timedelta(days=2))
    assert skipping.channel.count("query") == looks
    again = (await skipping.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")).out_trade_no
    skipping.channel.customer_pays(again)
    await skipping.report(handle, again)
    assert (await handle.result()).status == "completed"


async def test_money_that_the_closing_of_an_expired_code_finds_pays_the_sale(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    sale = skipping.sale()
    handle = await skipping.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await skipping.until(order_no, "unpaid")
    number = (await skipping.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")).out_trade_no
    skipping.channel.pay_on_close.add(number)
    await skip(time_skipping_env, skipping, timedelta(hours=1))
    assert (await handle.result()).status == "completed"
    skipping.assert_money_closed(order_no)
