"""What cannot go on is seen at once and never ends an order; a channel call that breaks is an unknown answer."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus

from contracts.payment import AttemptRef, PaymentOutcome
from db.unit_of_work import unit_of_work
from domain import ids, ledger, policy
from domain.payment import PayMethod
from tests.workflows.harness import CIPHER, Handle, Harness


async def failed_tasks(handle: Handle) -> list[str]:
    """Return why workflow tasks of a run failed."""
    kind = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    found = [event async for event in handle.fetch_history_events() if event.event_type == kind]
    return [event.workflow_task_failed_event_attributes.failure.message for event in found]


async def test_a_failure_beside_the_main_line_fails_the_workflow_task_at_once(harness: Harness) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    second = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")).out_trade_no
    other = ledger.refund_paid(ids.out_refund_no(second, "surplus"), "wechat", 1)
    with unit_of_work(harness.engine, CIPHER)() as tx:
        tx.ledger.post(request.order_no, other, harness.clock())
    harness.channel.customer_pays(second)
    await harness.pay_and_report(handle, request.order_no)
    await harness.until(request.order_no, "authorised")
    for _ in range(100):
        if found := await failed_tasks(handle):
            break
        await asyncio.sleep(0.1)
    assert "record_refund" in found[0]
    assert harness.order(request.order_no)["status"] == "authorised"
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING


async def test_a_transaction_that_is_refused_for_good_never_fails_the_order(harness: Harness) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    number = ids.out_trade_no(request.order_no, 1)
    other = ledger.prepaid_received(number, "wechat", 1)
    with unit_of_work(harness.engine, CIPHER)() as tx:
        tx.ledger.post(request.order_no, other, harness.clock())
    await harness.pay_and_report(handle, request.order_no)
    for _ in range(100):
        if found := await failed_tasks(handle):
            break
        await asyncio.sleep(0.1)
    assert "post_payment" in found[0]
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    assert harness.order(request.order_no)["status"] == "awaiting_payment"


async def test_a_channel_call_that_breaks_is_an_unknown_answer(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "PAYMENT_QUERY_LADDER", (timedelta(seconds=1),))
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")
    ask, left = harness.channel.query, iter(range(2))

    def broken(ref: AttemptRef) -> PaymentOutcome:
        if next(left, None) is None:
            return ask(ref)
        raise RuntimeError("a defect in the adapter")

    monkeypatch.setattr(harness.channel, "query", broken)
    await harness.pay_and_report(handle, order_no)
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(order_no)


async def test_a_poison_transaction_is_seen(harness: Harness) -> None:
    """The database itself refuses a transaction: the workflow task fails, and the order goes on once that is mended."""
    request = harness.start_request()
    _, handle = await harness.start(request)
    number = request.order_no
    with harness.engine.begin() as db:
        db.execute(
            text(
                "CREATE OR REPLACE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" IF NEW.order_no = '{number}' THEN RAISE check_violation; END IF; RETURN NEW; END $$"
            )
        )
        db.execute(
            text(
                "CREATE TRIGGER poison BEFORE INSERT ON ledger_journal FOR EACH ROW EXECUTE FUNCTION poison()"
            )
        )
    try:
        await harness.pay_and_report(handle, number)
        for _ in range(100):
            if found := await failed_tasks(handle):
                break
            await asyncio.sleep(0.1)
    finally:
        with harness.engine.begin() as db:
            db.execute(text("DROP TRIGGER poison ON ledger_journal"))
    assert "post_payment" in found[0]
    await harness.until(number, "authorised")
