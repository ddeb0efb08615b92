"""Money for an order whose own run is gone: fuel that was dispensed is paid by it, a prepayment goes back."""

from datetime import timedelta

import pytest
from temporalio.client import WorkflowHandle

from contracts.payment import PaymentOutcome, PaymentReported
from domain import ids, policy
from domain.payment import OutcomeKind, PayMethod
from tests.workflows.harness import Harness
from workflows.return_surplus import ReturnSurplus


async def paid_late(harness: Harness, number: str) -> WorkflowHandle[ReturnSurplus, str]:
    """The customer pays, and a return run looks at the payment."""
    harness.channel.customer_pays(number)
    return await harness.client.start_workflow(
        ReturnSurplus.run,
        PaymentReported(out_trade_no=number),
        id=ids.surplus_workflow_id(number),
        task_queue=harness.queue,
    )


async def given_back(harness: Harness, number: str) -> str:
    """Return how the return run ended."""
    return await (await paid_late(harness, number)).result()


async def test_a_prepayment_whose_run_is_gone_goes_back_and_frees_the_pump(harness: Harness) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    await handle.terminate("by hand")
    assert await given_back(harness, ids.out_trade_no(request.order_no, 1)) == "returned"
    assert harness.order(request.order_no)["status"] == "refunded"
    assert harness.channel.net_of(request.order_no) == 0
    held = harness.rows("SELECT 1 FROM fuelling_point WHERE holder_order_no = :no", no=request.order_no)
    assert held == []
    harness.assert_money_closed(request.order_no)


async def test_a_sale_whose_run_is_gone_is_settled_by_its_late_payment(harness: Harness) -> None:
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    number = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")).out_trade_no
    await handle.terminate("by hand")
    assert await given_back(harness, number) == "settled"
    row = harness.order(order_no)
    assert (row["status"], row["paid_fen"], row["refunded_fen"]) == ("completed", 14_700, 0)
    assert harness.channel.net_of(order_no) == 14_700
    assert len(harness.rows("SELECT 1 FROM receipt WHERE order_no = :no", no=order_no)) == 1
    harness.assert_money_closed(order_no)


async def test_a_late_payment_that_the_channel_never_confirms_is_told_to_a_person(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "PAYMENT_QUERY_LADDER", (timedelta(milliseconds=300),))
    request = harness.start_request()
    _, handle = await harness.start(request)
    await handle.terminate("by hand")
    away = PaymentOutcome(kind=OutcomeKind.UNKNOWN, out_trade_no="", code="TIMEOUT")
    harness.channel.script["query"] = [away] * 1_000
    run = await paid_late(harness, ids.out_trade_no(request.order_no, 1))
    await harness.until(request.order_no, "awaiting_payment", needs="payment_unconfirmed")
    harness.channel.script["query"].clear()
    assert await run.result() == "returned"
    assert not harness.order(request.order_no)["needs_person"]
    harness.assert_money_closed(request.order_no)


async def test_two_late_payments_of_which_one_stays_unconfirmed_are_still_told(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "PAYMENT_QUERY_LADDER", (timedelta(milliseconds=300),))
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    for _ in range(2):
        await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    await handle.terminate("by hand")
    first, second = (ids.out_trade_no(order_no, attempt) for attempt in (1, 2))
    query, away = harness.channel.query, {first, second}
    unknown = PaymentOutcome(kind=OutcomeKind.UNKNOWN, out_trade_no="", code="TIMEOUT")
    answer = lambda ref: unknown if ref.out_trade_no in away else query(ref)  # noqa: E731
    monkeypatch.setattr(harness.channel, "query", answer)
    runs = [await paid_late(harness, number) for number in (first, second)]
    await harness.until(order_no, "unpaid", needs="payment_unconfirmed")
    away.discard(first)
    assert await runs[0].result() == "settled"
    await harness.until(order_no, "completed", needs="payment_unconfirmed")
    away.clear()
    assert await runs[1].result() == "returned"
    assert not harness.order(order_no)["needs_person"]
    harness.assert_money_closed(order_no)
