"""Post-paid sales: any screen pays, the first success wins, a second one goes back; the pay code's own ladder."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy

from contracts import names
from contracts.fill import FillInput, PayAnswer, PayCommand, PayState, ResolveAction
from contracts.station import EndReason
from domain import ids, policy
from domain.payment import PayMethod
from domain.quantity import Unit
from tests.workflows.harness import Handle, Harness, refusal
from tests.workflows.test_prepaid import UNITS
from workflows.fill_and_pay import FillAndPay


@pytest.fixture
def quick_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask about a pay code every second instead of every five (domain passes through the sandbox, so this holds)."""
    monkeypatch.setattr(policy, "CODE_QUERY_INTERVAL", timedelta(seconds=1))


async def unpaid(harness: Harness, **changes: Any) -> tuple[str, Handle]:
    """Open an unpaid sale."""
    sale = harness.sale(**changes)
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    return order_no, handle


@pytest.mark.parametrize(("nozzle", "node", "fp", "device", "unit", "price"), UNITS)
async def test_paid_in_the_mini_program(
    harness: Harness, nozzle: int, node: int, fp: int, device: int, unit: Unit, price: int
) -> None:
    order_no, handle = await unpaid(
        harness, node=node, fp=fp, nozzle=device, unit=unit, price_fen_per_unit=price, amount_fen=price * 20
    )
    answer = await harness.pay(handle, PayMethod.WECHAT_JSAPI)
    assert (answer.state, answer.amount_fen) == (PayState.WAITING, price * 20)
    assert answer.client_params
    await harness.pay_and_report(handle, order_no)
    result = await handle.result()
    assert (result.status, result.paid_fen) == ("completed", price * 20)
    harness.assert_money_closed(order_no)
    assert harness.rows("SELECT 1 FROM receipt WHERE order_no = :no", no=order_no)


async def test_duplicate_sale_opens_one_order(harness: Harness) -> None:
    sale = harness.sale()
    first = await harness.start_sale(sale)
    second = await harness.start_sale(sale)
    assert first.id == second.id
    await harness.complete(first, sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    assert (await harness.cash(first, 14_700)).ok
    assert (await first.result()).status == "completed"
    assert len(harness.rows("SELECT 1 FROM sale WHERE natural_key = :k", k=sale.natural_key)) == 1


async def test_native_qr_on_a_kiosk(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    answer = await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")
    assert answer.state is PayState.WAITING
    await harness.pay_and_report(handle, order_no)
    assert (await handle.result()).status == "completed"


async def test_cash_at_the_counter(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    wrong = await harness.cash(handle, 14_000)
    assert (wrong.ok, wrong.code) == (False, "AMOUNT_DIFFERS")
    assert (await harness.cash(handle, 14_700)).ok
    assert (await handle.result()).status == "completed"
    assert harness.balance("1010.cash", order_no) == 14_700


async def test_cash_is_refused_when_the_phone_was_faster(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    await harness.pay(handle, PayMethod.WECHAT_JSAPI)
    harness.channel.customer_pays(ids.out_trade_no(order_no, 1))
    answer = await harness.cash(handle, 14_700)
    assert (answer.ok, answer.code) == (False, "ALREADY_PAID")
    assert (await handle.result()).status == "completed"
    assert harness.channel.net_of(order_no) == 14_700


async def test_two_payments_for_one_order_return_the_second(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    await harness.pay(handle, PayMethod.WECHAT_JSAPI)
    await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    first, second = ids.out_trade_no(order_no, 1), ids.out_trade_no(order_no, 2)
    harness.channel.customer_pays(first)
    harness.channel.customer_pays(second)
    await harness.report(handle, first)
    await harness.report(handle, second)
    assert (await handle.result()).status == "completed"
    row = harness.order(order_no)
    assert (row["paid_fen"], row["surplus_fen"], row["refunded_fen"]) == (14_700, 14_700, 14_700)
    assert harness.channel.net_of(order_no) == 14_700
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_pay_code_succeeds(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    answer = await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000000")
    assert answer.state is PayState.PAID
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_pay_code_without_money_then_another_method(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "CODE_REVERSE_NOT_BEFORE", timedelta(seconds=1))
    order_no, handle = await unpaid(harness)
    answer = await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000001")
    assert (answer.state, answer.code) == (PayState.FAILED, "NOT_ENOUGH")
    assert "余额不足" in answer.message
    assert harness.order(order_no)["status"] == "unpaid"
    assert (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pos")).state is PayState.WAITING
    await harness.pay_and_report(handle, order_no, attempt=2)
    assert (await handle.result()).status == "completed"
    assert harness.channel.trades[ids.out_trade_no(order_no, 1)].state == "REVOKED"
    assert harness.channel.count("reverse") >= 1
    assert harness.channel.net_of(order_no) == 14_700


@pytest.mark.feature("000-3")
@pytest.mark.usefixtures("quick_code")
async def test_pay_code_while_the_user_types_the_password(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    answer = await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000010")
    assert answer.state is PayState.WAITING
    harness.channel.customer_pays(ids.out_trade_no(order_no, 1))
    await harness.until(order_no, "completed")
    assert (await handle.result()).status == "completed"


@pytest.mark.feature("000-3")
@pytest.mark.usefixtures("quick_code")
async def test_pay_code_answer_lost_is_asked_and_never_charged_again(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    answer = await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code="130000000000000022")
    assert answer.state is PayState.UNCERTAIN
    assert (await handle.result()).status == "completed"
    assert harness.channel.count("charge_code") == 1
    assert harness.channel.net_of(order_no) == 14_700


async def test_other_screens_are_told(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")
    harness.channel.script["close"] = []
    harness.channel.customer_pays(ids.out_trade_no(order_no, 1))
    late = asyncio.create_task(harness.cash(handle, 14_700))
    answer = await late
    assert (answer.ok, answer.code) == (False, "ALREADY_PAID")
    await handle.result()


async def test_cancel_with_reason_is_written_off(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    empty = await harness.cancel(handle, reason="  ")
    assert (empty.ok, empty.code) == (False, "REASON_MISSING")
    assert (await harness.cancel(handle, reason="驶离未付")).ok
    assert (await handle.result()).status == "cancelled"
    assert harness.balance("5060", order_no) == 14_700
    harness.assert_money_closed(order_no)


async def test_cancel_while_the_phone_pays_keeps_the_payment(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    await harness.pay(handle, PayMethod.WECHAT_JSAPI)
    harness.channel.pay_on_close.add(ids.out_trade_no(order_no, 1))
    answer = await harness.cancel(handle)
    assert (answer.ok, answer.code) == (False, "ALREADY_PAID")
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(order_no)


@pytest.mark.feature("003-K1")
async def test_flagged_sale_asks_a_person_before_anybody_pays(harness: Harness) -> None:
    order_no, handle = await unpaid(harness, amount_fen=99_900)
    assert await refusal(harness.pay(handle, PayMethod.WECHAT_JSAPI)) == "not_payable"
    assert (await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)).ok
    answer = await harness.pay(handle, PayMethod.WECHAT_JSAPI)
    assert answer.amount_fen == 14_700
    await harness.pay_and_report(handle, order_no)
    assert (await handle.result()).paid_fen == 14_700


async def test_payment_that_comes_before_the_sale_is_open_gets_the_same_refusal(harness: Harness) -> None:
    """The update is in the first workflow task, so nobody knows yet that the sale is flagged."""
    sale = harness.sale(amount_fen=99_900)
    order_no = ids.order_no_of_sale(sale.natural_key)
    start = WithStartWorkflowOperation(
        FillAndPay.run,
        FillInput(order_no=order_no, sale=sale),
        id=ids.fill_workflow_id(order_no),
        task_queue=harness.queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        task_timeout=harness.task_timeout,
    )
    pay = harness.client.execute_update_with_start_workflow(
        names.UPDATE_PAY,
        PayCommand(method=PayMethod.WECHAT_NATIVE, screen="kiosk"),
        id="pay-first",
        start_workflow_operation=start,
        result_type=PayAnswer,
    )
    assert await refusal(pay) == "not_payable"
    harness.handles.append(await start.workflow_handle())
    assert not harness.rows("SELECT 1 FROM payment_attempt WHERE order_no = :no", no=order_no)


async def test_rebuilt_sale_waits_for_a_person(harness: Harness) -> None:
    order_no, handle = await unpaid(harness, end_reason=EndReason.SYNTHESISED)
    assert harness.order(order_no)["needs_person"] == "synthesised"
    assert (await harness.resolve(handle, ResolveAction.CHARGE_DEVICE_AMOUNT)).ok
    assert (await harness.cash(handle, 14_700)).ok
    assert (await handle.result()).status == "completed"


async def test_person_may_not_decide_what_is_not_asked(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    for action in ResolveAction:
        answer = await harness.resolve(handle, action, amount_fen=1)
        assert (answer.ok, answer.code) == (False, "NOT_WAITING"), action
    assert harness.order(order_no)["charge_fen"] == 14_700
    assert (await harness.cash(handle, 14_700)).ok
    await handle.result()


@pytest.mark.feature("002-10")
async def test_no_orphans_after_a_run(harness: Harness) -> None:
    order_no, handle = await unpaid(harness)
    assert (await harness.cash(handle, 14_700)).ok
    await handle.result()
    orphans = harness.row(
        "SELECT (SELECT count(*) FROM fuel_order o WHERE NOT EXISTS"
        "  (SELECT 1 FROM order_event e WHERE e.order_no = o.order_no))"
        " + (SELECT count(*) FROM fuel_order o WHERE o.mode = 'postpaid' AND NOT EXISTS"
        "  (SELECT 1 FROM sale s WHERE s.order_no = o.order_no))"
        " + (SELECT count(*) FROM fuel_order o WHERE o.paid_fen > 0 AND NOT EXISTS"
        "  (SELECT 1 FROM payment_attempt a WHERE a.out_trade_no = o.paid_by AND a.status = 'succeeded'))"
        " + (SELECT count(*) FROM ledger_journal j WHERE NOT EXISTS"
        "  (SELECT 1 FROM ledger_entry e WHERE e.journal_id = j.id)) AS n"
    )
    assert orphans["n"] == 0
    assert harness.order(order_no)["station_id"] is not None
