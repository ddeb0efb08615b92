"""One scenario a path through the workflows; `record.py` keeps the history of each, `test_replay.py` replays it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from contracts.fill import ResolveAction
from contracts.payment import CloseOutcome, PaymentReported, RefundOutcome
from contracts.station import CommandState, EndReason
from domain import ids, policy
from domain.payment import CloseKind, PayMethod, RefundKind
from tests.workflows.harness import Handle, Harness
from tests.workflows.test_deadlines import skip
from tests.workflows.test_unplaced_sales import set_up, unplaced
from workflows.fill_and_pay import FillAndPay
from workflows.return_surplus import ReturnSurplus

Recorded = WorkflowHandle[Any, Any]
RealTime = Callable[[Harness], Awaitable[Recorded]]
Skipping = Callable[[Harness, WorkflowEnvironment], Awaitable[Recorded]]


async def prepaid_rest(h: Harness) -> Recorded:
    request, handle = await h.start_authorised()
    await h.complete(handle, h.sale(order_no=request.order_no))
    return handle


async def prepaid_full(h: Harness) -> Recorded:
    request, handle = await h.start_authorised(amount_fen=14_700)
    await h.complete(handle, h.sale(order_no=request.order_no, end_reason=EndReason.PRESET_REACHED))
    return handle


async def prepaid_zero(h: Harness) -> Recorded:
    request, handle = await h.start_authorised()
    zero = h.sale(order_no=request.order_no, quantity_milli=0, amount_fen=0, end_reason=EndReason.ZERO)
    await h.complete(handle, zero)
    return handle


async def prepaid_price_changed(h: Harness) -> Recorded:
    _, handle = await h.start(h.start_request(price_fen_per_unit=700))
    return handle


async def prepaid_create_lost(h: Harness) -> Recorded:
    h.channel.script["create"] = ["lost"]
    request, handle = await h.start_authorised()
    await h.complete(handle, h.sale(order_no=request.order_no))
    return handle


async def prepaid_authorise_refused(h: Harness) -> Recorded:
    h.stations.authorise_answer = (CommandState.REFUSED, "PRICE_MISMATCH")
    _, handle = await h.start_paid()
    return handle


async def prepaid_dispenser_silent(h: Harness) -> Recorded:
    h.stations.silent = True
    request, handle = await h.start_paid()
    await h.until(request.order_no, "paid", needs="dispenser_unanswered")
    await h.complete(handle, h.sale(order_no=request.order_no))
    return handle


async def prepaid_overfill_written_off(h: Harness) -> Recorded:
    return await _overfill(h, ResolveAction.WRITE_OFF)


async def prepaid_overfill_collected(h: Harness) -> Recorded:
    return await _overfill(h, ResolveAction.COLLECT_CASH)


async def _overfill(h: Harness, action: ResolveAction) -> Recorded:
    request, handle = await h.start_authorised(amount_fen=14_000)
    await h.complete(handle, h.sale(order_no=request.order_no))
    await h.until(request.order_no, "dispensed", needs="shortfall")
    assert (await h.resolve(handle, action)).ok
    return handle


async def prepaid_wrong_amount(h: Harness) -> Recorded:
    request, handle = await h.start_authorised()
    await h.complete(handle, h.sale(order_no=request.order_no, amount_fen=16_000))
    await h.until(request.order_no, "authorised", needs="amount_mismatch")
    assert (await h.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)).ok
    return handle


async def prepaid_cash(h: Harness) -> Recorded:
    request = h.start_request(method=PayMethod.CASH, driver_id=None)
    _, handle = await h.start(request)
    await h.until(request.order_no, "authorised")
    await h.complete(handle, h.sale(order_no=request.order_no))
    await h.until(request.order_no, "dispensed", needs="return_cash")
    assert (await h.resolve(handle, ResolveAction.CASH_RETURNED)).ok
    return handle


async def prepaid_cancelled_authorised(h: Harness) -> Recorded:
    _, handle = await h.start_authorised()
    assert (await h.cancel(handle)).ok
    return handle


async def prepaid_cancelled_unpaid(h: Harness) -> Recorded:
    _, handle = await h.start(h.start_request())
    assert (await h.cancel(handle)).ok
    return handle


async def prepaid_cancelled_while_paying(h: Harness) -> Recorded:
    request = h.start_request()
    _, handle = await h.start(request)
    h.channel.pay_on_close.add(ids.out_trade_no(request.order_no, 1))
    assert (await h.cancel(handle)).ok
    return handle


async def prepaid_fuel_after_refund(h: Harness) -> Recorded:
    request, handle = await h.start_authorised()
    h.channel.script["refund"] = ["lost"]
    await h.cancel(handle)
    await h.complete(handle, h.sale(order_no=request.order_no))
    number = ids.out_trade_no(request.order_no, 1)
    report = PaymentReported(out_trade_no=number, out_refund_no=ids.out_refund_no(number, "all"))
    await handle.signal(FillAndPay.payment_reported, report)
    return handle


async def prepaid_refund_closed(h: Harness) -> Recorded:
    h.channel.script["refund"] = [RefundOutcome(kind=RefundKind.CLOSED, out_refund_no="")]
    request, handle = await h.start_authorised()
    await h.complete(handle, h.sale(order_no=request.order_no))
    await h.until(request.order_no, "dispensed", needs="refund_closed")
    assert (await h.resolve(handle, ResolveAction.CASH_RETURNED)).ok
    return handle


async def prepaid_nothing_dispensed(h: Harness, env: WorkflowEnvironment) -> Recorded:
    h.stations.silent = True
    request, handle = await h.start_paid()
    await h.until(request.order_no, "paid", needs="dispenser_unanswered")
    await env.sleep(policy.AUTHORISE_EXPIRY)
    assert (await h.resolve(handle, ResolveAction.NOTHING_DISPENSED)).ok
    await h.until(request.order_no, "refunded")
    h.stations.silent = False
    return handle


async def postpaid_wrong_payment(h: Harness) -> Recorded:
    order_no, handle = await _unpaid(h)
    await h.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    h.channel.trades[ids.out_trade_no(order_no, 1)].amount_fen = 1
    await h.pay_and_report(handle, order_no)
    await h.until(order_no, "unpaid", needs="payment_amount_mismatch")
    assert (await h.cash(handle, 14_700)).ok
    assert (await h.resolve(handle, ResolveAction.RELEASE_HELD)).ok
    return handle


async def _unpaid(h: Harness, **changes: Any) -> tuple[str, Handle]:
    sale = h.sale(**changes)
    handle = await h.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await h.until(order_no, "unpaid")
    return order_no, handle


async def postpaid_jsapi(h: Harness) -> Recorded:
    order_no, handle = await _unpaid(h)
    await h.pay(handle, PayMethod.WECHAT_JSAPI)
    await h.pay_and_report(handle, order_no)
    return handle


async def postpaid_cash(h: Harness) -> Recorded:
    _, handle = await _unpaid(h)
    assert (await h.cash(handle, 14_700)).ok
    return handle


async def postpaid_cash_after_qr(h: Harness) -> Recorded:
    _, handle = await _unpaid(h)
    await h.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    assert (await h.cash(handle, 14_700)).ok
    return handle


async def postpaid_phone_was_faster(h: Harness) -> Recorded:
    order_no, handle = await _unpaid(h)
    await h.pay(handle, PayMethod.WECHAT_JSAPI)
    h.channel.customer_pays(ids.out_trade_no(order_no, 1))
    assert not (await h.cash(handle, 14_700)).ok
    return handle


async def postpaid_code(h: Harness) -> Recorded:
    _, handle = await _unpaid(h)
    await h.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000000")
    return handle


async def postpaid_code_failed_then_qr(h: Harness) -> Recorded:
    order_no, handle = await _unpaid(h)
    await h.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000001")
    await h.pay(handle, PayMethod.WECHAT_NATIVE, screen="pos")
    await h.pay_and_report(handle, order_no, attempt=2)
    return handle


async def postpaid_code_answer_lost(h: Harness) -> Recorded:
    _, handle = await _unpaid(h)
    await h.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000022")
    return handle


async def postpaid_two_payments(h: Harness) -> Recorded:
    order_no, handle = await _unpaid(h)
    await h.pay(handle, PayMethod.WECHAT_JSAPI)
    await h.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    numbers = [ids.out_trade_no(order_no, n) for n in (1, 2)]
    for number in numbers:
        h.channel.customer_pays(number)
    for number in numbers:
        await h.report(handle, number)
    return handle


async def postpaid_written_off(h: Harness) -> Recorded:
    _, handle = await _unpaid(h)
    assert (await h.cancel(handle, reason="驶离未付")).ok
    return handle


async def postpaid_rebuilt(h: Harness) -> Recorded:
    _, handle = await _unpaid(h, end_reason=EndReason.SYNTHESISED)
    assert (await h.resolve(handle, ResolveAction.CHARGE_DEVICE_AMOUNT)).ok
    assert (await h.cash(handle, 14_700)).ok
    return handle


async def return_surplus(h: Harness) -> Recorded:
    order_no, handle = await _unpaid(h)
    await h.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    assert (await h.cash(handle, 14_700)).ok
    await handle.result()
    number = ids.out_trade_no(order_no, 1)
    h.channel.trades[number].state = "SUCCESS"
    return await h.client.start_workflow(
        ReturnSurplus.run,
        PaymentReported(out_trade_no=number),
        id=ids.surplus_workflow_id(number),
        task_queue=h.queue,
    )


async def expired(h: Harness, env: WorkflowEnvironment) -> Recorded:
    _, handle = await h.start(h.start_request())
    return handle


async def expired_close_unknown(h: Harness, env: WorkflowEnvironment) -> Recorded:
    h.channel.script["close"] = [CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no="")] * 2
    _, handle = await h.start(h.start_request())
    return handle


async def paid_at_expiry(h: Harness, env: WorkflowEnvironment) -> Recorded:
    request = h.start_request()
    _, handle = await h.start(request)
    h.channel.pay_on_close.add(ids.out_trade_no(request.order_no, 1))
    while h.order(request.order_no)["status"] != "authorised":
        await env.sleep(timedelta(seconds=3))
    await h.complete(handle, h.sale(order_no=request.order_no))
    return handle


async def paid_too_late(h: Harness, env: WorkflowEnvironment) -> Recorded:
    request = h.start_request()
    _, handle = await h.start(request)
    h.clock.offset += policy.NOZZLE_HOLD + timedelta(seconds=30)
    await env.sleep(policy.NOZZLE_HOLD + timedelta(seconds=30))
    await h.start(h.start_request())
    await h.pay_and_report(handle, request.order_no)
    return handle


async def code_reversed(h: Harness, env: WorkflowEnvironment) -> Recorded:
    sale = h.sale()
    handle = await h.start_sale(sale)
    await h.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000010")
    await env.sleep(policy.CODE_QUERY_LIMIT + timedelta(seconds=15))
    assert (await h.cash(handle, 14_700)).ok
    return handle


async def code_not_reversible(h: Harness, env: WorkflowEnvironment) -> Recorded:
    refused = CloseOutcome(kind=CloseKind.REFUSED, out_trade_no="", code="NO_AUTH")
    h.channel.script["reverse"] = [refused] * 100
    sale = h.sale()
    handle = await h.start_sale(sale)
    await h.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000010")
    await env.sleep(policy.CODE_QUERY_LIMIT + timedelta(seconds=15))
    h.channel.customer_pays(ids.out_trade_no(ids.order_no_of_sale(sale.natural_key), 1))
    return handle


async def forgotten_sale(h: Harness, env: WorkflowEnvironment) -> Recorded:
    sale = h.sale()
    handle = await h.start_sale(sale)
    await env.sleep(policy.UNPAID_ATTENTION_AFTER + timedelta(minutes=1))
    assert (await h.cash(handle, 14_700)).ok
    return handle


async def fill_not_reported(h: Harness, env: WorkflowEnvironment) -> Recorded:
    request, handle = await h.start_authorised()
    await env.sleep(policy.FILL_ATTENTION_AFTER + timedelta(minutes=1))
    await h.complete(handle, h.sale(order_no=request.order_no, offline=True))
    return handle


async def postpaid_code_expired(h: Harness, env: WorkflowEnvironment) -> Recorded:
    _, handle = await _unpaid(h)
    await h.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    await skip(env, h, timedelta(hours=1))
    assert (await h.cash(handle, 14_700)).ok
    return handle


async def postpaid_place_unknown(h: Harness, env: WorkflowEnvironment) -> Recorded:
    sale, handle = await unplaced(h, 5)
    set_up(h, 5)
    await skip(env, h, policy.PLACE_ASK_LADDER[0])
    await h.until(ids.order_no_of_sale(sale.natural_key), "unpaid")
    assert (await h.cash(handle, 14_700)).ok
    return handle


async def prepaid_refund_short(h: Harness, env: WorkflowEnvironment) -> Recorded:
    h.channel.script["refund"] = [RefundOutcome(kind=RefundKind.INSUFFICIENT, out_refund_no="")] * 2
    request, handle = await h.start_authorised()
    await h.complete(handle, h.sale(order_no=request.order_no))
    await h.until(request.order_no, "dispensed", needs="refund_balance_short")
    await skip(env, h, sum(policy.SHORT_BALANCE_LADDER[:2], timedelta()))
    return handle


REAL_TIME: tuple[RealTime, ...] = (
    prepaid_rest,
    prepaid_full,
    prepaid_zero,
    prepaid_price_changed,
    prepaid_create_lost,
    prepaid_authorise_refused,
    prepaid_dispenser_silent,
    prepaid_overfill_written_off,
    prepaid_overfill_collected,
    prepaid_wrong_amount,
    prepaid_cash,
    prepaid_cancelled_authorised,
    prepaid_cancelled_unpaid,
    prepaid_cancelled_while_paying,
    prepaid_fuel_after_refund,
    prepaid_refund_closed,
    postpaid_wrong_payment,
    postpaid_jsapi,
    postpaid_cash,
    postpaid_cash_after_qr,
    postpaid_phone_was_faster,
    postpaid_code,
    postpaid_code_failed_then_qr,
    postpaid_code_answer_lost,
    postpaid_two_payments,
    postpaid_written_off,
    postpaid_rebuilt,
    return_surplus,
)
SKIPPING: tuple[Skipping, ...] = (
    expired,
    expired_close_unknown,
    paid_at_expiry,
    paid_too_late,
    code_reversed,
    code_not_reversible,
    forgotten_sale,
    fill_not_reported,
    prepaid_nothing_dispensed,
    prepaid_refund_short,
    postpaid_code_expired,
    postpaid_place_unknown,
)
NAMES = tuple(one.__name__ for one in (*REAL_TIME, *SKIPPING))
