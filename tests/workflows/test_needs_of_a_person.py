"""One slot says what a person is needed for: what was hidden or interrupted there comes back, and nothing else goes."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.order_money import OrderMoneyActivities
from activities.order_opening import OrderOpeningActivities
from activities.ports import PaymentChannel
from contracts.fill import PayCommand, ResolveAction
from contracts.orders import BeginAttempt, PostPayment
from contracts.payment import AttemptRef, CloseOutcome, RefundOutcome, RefundRequest
from db.unit_of_work import unit_of_work
from domain import ids, policy
from domain.payment import CloseKind, PayMethod, RefundKind
from tests.workflows.harness import CIPHER, Handle, Harness
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


@pytest.fixture
def unconfirmed_reversal(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A channel that does not confirm the next four reversals; the list says how many of them are left."""
    monkeypatch.setattr(policy, "CODE_QUERY_INTERVAL", timedelta(milliseconds=300))
    monkeypatch.setattr(policy, "CODE_QUERY_LIMIT", timedelta(seconds=2))
    monkeypatch.setattr(policy, "CODE_REVERSE_NOT_BEFORE", timedelta(milliseconds=300))
    monkeypatch.setattr(policy, "PAYMENT_QUERY_LADDER", (timedelta(milliseconds=500),))
    original, left = harness.channel.reverse, [4]

    def reverse(ref: AttemptRef) -> CloseOutcome:
        if left[0]:
            left[0] -= 1
            return CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no=ref.out_trade_no)
        return original(ref)

    monkeypatch.setattr(harness.channel, "reverse", reverse)
    return left


async def sale_with_an_unconfirmed_code(harness: Harness) -> tuple[str, Handle]:
    """A sale whose pay code was charged and is never confirmed."""
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="134567890123450010")
    return order_no, handle


async def pay_by_qr(harness: Harness, handle: Handle) -> None:
    """A pillar's QR code pays the order."""
    number = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")).out_trade_no
    harness.channel.customer_pays(number)
    await harness.report(handle, number)


async def test_a_confirmed_reversal_takes_its_need_back(
    harness: Harness, unconfirmed_reversal: list[int]
) -> None:
    order_no, handle = await sale_with_an_unconfirmed_code(harness)
    await pay_by_qr(harness, handle)
    await harness.until(order_no, "completed", needs="code_reverse_unconfirmed")
    await handle.result()
    assert harness.order(order_no)["needs_person"] == ""


async def test_an_unconfirmed_reversal_does_not_hide_held_money(
    harness: Harness, unconfirmed_reversal: list[int]
) -> None:
    order_no, handle = await sale_with_an_unconfirmed_code(harness)
    await wrong_payment(harness, handle)
    await harness.until(order_no, "unpaid", needs="payment_amount_mismatch")
    await pay_by_qr(harness, handle)
    await harness.until(order_no, "completed", needs="payment_amount_mismatch")
    while unconfirmed_reversal[0]:
        await asyncio.sleep(0.1)
        assert harness.order(order_no)["needs_person"] == "payment_amount_mismatch"
    await asyncio.sleep(1)
    assert harness.order(order_no)["needs_person"] == "payment_amount_mismatch"
    assert (await harness.resolve(handle, ResolveAction.RELEASE_HELD)).ok
    await handle.result()
    assert harness.order(order_no)["needs_person"] == ""


async def test_held_money_takes_the_place_of_an_unconfirmed_reversal(
    harness: Harness, unconfirmed_reversal: list[int]
) -> None:
    unconfirmed_reversal[0] = 1_000
    order_no, handle = await sale_with_an_unconfirmed_code(harness)
    await harness.until(order_no, "unpaid", needs="code_reverse_unconfirmed")
    await wrong_payment(harness, handle)
    await harness.until(order_no, "unpaid", needs="payment_amount_mismatch")
    assert (await harness.resolve(handle, ResolveAction.RELEASE_HELD)).ok
    await harness.until(order_no, "unpaid", needs="code_reverse_unconfirmed")


async def test_an_unconfirmed_reversal_does_not_hide_a_fill_that_nobody_reported(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, unconfirmed_reversal: list[int]
) -> None:
    monkeypatch.setattr(policy, "FILL_ATTENTION_AFTER", timedelta(seconds=6))
    unconfirmed_reversal[0] = 1_000
    request = harness.start_request()
    _, handle = await harness.start(request)
    await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="134567890123450010")
    await harness.pay_and_report(handle, request.order_no)
    await harness.until(request.order_no, "authorised", needs="code_reverse_unconfirmed")
    await harness.until(request.order_no, "authorised", needs="fill_not_reported")
    assert (await harness.resolve(handle, ResolveAction.NOTHING_DISPENSED)).ok


async def test_a_slow_refund_does_not_hide_cash_to_hand_back(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "REFUND_QUERY_LADDER", (timedelta(milliseconds=300),))
    original = harness.channel.refund

    def slow(request: RefundRequest) -> RefundOutcome:
        if request.method is PayMethod.CASH:
            return original(request)
        harness.channel.calls.append(("slow", request.out_refund_no))
        return RefundOutcome(kind=RefundKind.PROCESSING, out_refund_no=request.out_refund_no)

    monkeypatch.setattr(harness.channel, "refund", slow)
    monkeypatch.setattr(harness.channel, "query_refund", slow)
    request = harness.start_request()
    _, handle = await harness.start(request)
    assert (await harness.cash(handle, 20_000)).ok
    await harness.until(request.order_no, "authorised")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="return_cash")
    late = ids.out_trade_no(request.order_no, 1)
    harness.channel.trades[late].state = "SUCCESS"
    await harness.report(handle, late)
    while harness.channel.count("slow") < 8:
        await asyncio.sleep(0.1)
    assert harness.order(request.order_no)["needs_person"] == "return_cash"
    assert (await harness.resolve(handle, ResolveAction.CASH_RETURNED)).ok
    await harness.until(request.order_no, "completed", needs="refund_slow")


async def test_a_paid_sale_is_not_called_unpaid(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker died after it had booked the cash: the run learns of it when it wants to ask for a person."""
    monkeypatch.setattr(policy, "UNPAID_ATTENTION_AFTER", timedelta(seconds=2))
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    uow = unit_of_work(harness.engine, CIPHER)
    channels: dict[str, PaymentChannel] = {"cash": harness.channel}
    begin = BeginAttempt(
        order_no=order_no,
        command_id="take_cash-lost",
        pay=PayCommand(method=PayMethod.CASH, screen="cashier"),
    )
    begun = OrderOpeningActivities(uow, channels, harness.clock).begin_attempt(begin)
    assert begun.attempt is not None
    outcome = harness.channel.create(begun.attempt)
    OrderMoneyActivities(uow, harness.clock).post_payment(PostPayment(order_no=order_no, outcome=outcome))
    assert harness.order(order_no)["status"] == "completed"
    assert (await handle.result()).status == "completed"
    assert harness.order(order_no)["needs_person"] == ""


async def test_cash_is_handed_back_before_the_bank_is_asked_for_another_refund(harness: Harness) -> None:
    """A QR code captured all the same and its refund is abnormal for days: the cash at the counter does not wait."""
    request = harness.start_request()
    _, handle = await harness.start(request)
    assert (await harness.cash(handle, 20_000)).ok
    await harness.until(request.order_no, "authorised")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="return_cash")
    harness.channel.script["refund"] = [RefundOutcome(kind=RefundKind.ABNORMAL, out_refund_no="")]
    late = ids.out_trade_no(request.order_no, 1)
    harness.channel.trades[late].state = "SUCCESS"
    await harness.report(handle, late)
    while not harness.rows(
        "SELECT 1 FROM refund WHERE order_no = :n AND status = 'abnormal'", n=request.order_no
    ):
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    assert harness.order(request.order_no)["needs_person"] == "return_cash"
    cash = await harness.resolve(handle, ResolveAction.CASH_RETURNED, need="return_cash", by_cashier=True)
    assert cash.ok
    await harness.until(request.order_no, "completed", needs="refund_abnormal")
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND, need="refund_abnormal")).ok
    assert (await handle.result()).status == "completed"
