"""One slot says what a person is needed for: what was hidden or interrupted there comes back, and nothing else goes."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from contracts.fill import ResolveAction
from contracts.payment import CloseOutcome
from domain import ids, policy
from domain.payment import CloseKind, PayMethod
from tests.workflows.harness import Handle, Harness
from tests.workflows.test_held_money import abnormal_and_held, ended
from tests.workflows.test_refund_decisions import decide


async def wrong_payment(harness: Harness, handle: Handle) -> None:
    """A kiosk's QR code brings one fen, which is held for a person."""
    wrong = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")).out_trade_no
    harness.channel.trades[wrong].state, harness.channel.trades[wrong].amount_fen = "SUCCESS", 1
    await harness.report(handle, wrong)


async def test_fill_not_reported_is_flagged_after_another_need_is_settled(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    request = skipping.start_request()
    _, handle = await skipping.start(request)
    await wrong_payment(skipping, handle)
    await skipping.until(request.order_no, "awaiting_payment", needs="payment_amount_mismatch")
    await skipping.pay_and_report(handle, request.order_no)
    await skipping.until(request.order_no, "authorised", needs="payment_amount_mismatch")
    assert (await skipping.resolve(handle, ResolveAction.RELEASE_HELD)).ok
    await skipping.until(request.order_no, "authorised", needs="")
    await time_skipping_env.sleep(policy.FILL_ATTENTION_AFTER + timedelta(minutes=1))
    await skipping.until(request.order_no, "authorised", needs="fill_not_reported")


async def test_unpaid_too_long_is_flagged_after_another_need_is_settled(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    sale = skipping.sale()
    handle = await skipping.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await skipping.until(order_no, "unpaid")
    await wrong_payment(skipping, handle)
    await skipping.until(order_no, "unpaid", needs="payment_amount_mismatch")
    assert (await skipping.resolve(handle, ResolveAction.RELEASE_HELD)).ok
    await skipping.until(order_no, "unpaid", needs="")
    await time_skipping_env.sleep(policy.UNPAID_ATTENTION_AFTER + timedelta(minutes=1))
    await skipping.until(order_no, "unpaid", needs="unpaid_too_long")


async def test_a_hidden_need_comes_back_for_its_decision(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "FILL_ATTENTION_AFTER", timedelta(seconds=1))
    unknown = CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no="")
    harness.channel.script["close"] = [unknown] * 50
    request = harness.start_request()
    _, handle = await harness.start(request)
    wrong = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")).out_trade_no
    await harness.pay_and_report(handle, request.order_no)
    await harness.until(request.order_no, "authorised", needs="fill_not_reported")
    harness.channel.trades[wrong].state, harness.channel.trades[wrong].amount_fen = "SUCCESS", 1
    await harness.report(handle, wrong)
    await harness.until(request.order_no, "authorised", needs="payment_amount_mismatch")
    assert (await harness.resolve(handle, ResolveAction.RELEASE_HELD)).ok
    await harness.until(request.order_no, "authorised", needs="fill_not_reported")
    assert (await harness.resolve(handle, ResolveAction.NOTHING_DISPENSED)).ok
    assert (await handle.result()).status == "refunded"
    harness.assert_money_closed(request.order_no)


async def test_a_refund_of_one_run_stays_asked_for(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    order_no, _, two, first, second = await abnormal_and_held(harness, monkeypatch)
    assert (await decide(second, ResolveAction.RELEASE_HELD)).ok
    assert await second.result() == "returned"
    await asyncio.sleep(0.5)
    assert harness.order(order_no)["needs_person"] == "refund_abnormal"
    assert harness.channel.trades[two].refunds == {ids.out_refund_no(two, "mismatch"): 1}
    story = harness.rows("SELECT * FROM order_event WHERE order_no = :no AND kind = 'resolved'", no=order_no)
    assert [(one["actor"], one["detail"]) for one in story] == [("staff:1", "已核对")]
    await ended(first)
