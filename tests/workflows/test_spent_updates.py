"""Temporal grants a run 2,000 updates: no screen and no person uses them up, so that the counter can end every order."""

import asyncio

import pytest

from contracts import names
from contracts.fill import CancelCommand, CommandAnswer, PayAnswer, PayCommand, PayState, ResolveAction
from contracts.payment import RefundOutcome
from domain import ids, policy
from domain.payment import PayMethod, RefundKind
from tests.workflows.harness import Handle, Harness, refusal
from tests.workflows.test_refund_decisions import decide, ended_sale_with_late_money

QR = PayCommand(method=PayMethod.WECHAT_NATIVE, screen="pillar")


async def unpaid_sale(harness: Harness) -> Handle:
    """A sale that waits for money."""
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    await harness.until(ids.order_no_of_sale(sale.natural_key), "unpaid")
    return handle


async def history_length(handle: Handle) -> int:
    return (await handle.describe()).history_length


async def test_a_screen_cannot_wear_an_order_out_with_payments(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "MOST_ATTEMPTS", 2)
    handle = await unpaid_sale(harness)
    for _ in range(2):
        answer = await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")
        assert answer.state is PayState.WAITING
    refused = await refusal(harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk"))
    assert refused == "too_many_payments"
    assert (await harness.cash(handle, 14_700)).ok
    assert (await handle.result()).status == "completed"


async def test_refused_payments_leave_no_trace_in_the_history(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "MOST_ATTEMPTS", 1)
    handle = await unpaid_sale(harness)
    await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    before = await history_length(handle)
    for _ in range(20):
        await refusal(harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar"))
    assert await history_length(handle) == before


async def test_a_repeated_payment_gets_its_answer_also_when_no_other_is_taken(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "MOST_ATTEMPTS", 1)
    handle = await unpaid_sale(harness)

    async def ask(update_id: str) -> PayAnswer:
        answer: PayAnswer = await handle.execute_update(
            names.UPDATE_PAY, QR, id=update_id, result_type=PayAnswer
        )
        return answer

    first = await ask("pay-first")
    assert await refusal(ask("pay-second")) == "too_many_payments"
    assert await ask("pay-first") == first
    assert first.state is PayState.WAITING


@pytest.mark.timeout(120)
async def test_refused_payments_do_not_shut_out_the_cashier(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "MOST_ATTEMPTS", 1)
    handle = await unpaid_sale(harness)
    await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")

    async def hammer(times: int) -> None:
        for _ in range(times):
            await refusal(harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar"))

    await asyncio.gather(*(hammer(252) for _ in range(8)))
    assert (await harness.cash(handle, 14_700)).ok


async def test_one_person_cannot_wear_an_order_out_for_the_next(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two screens of one cashier repeat a cancel without a reason; the manager is heard all the same."""
    monkeypatch.setattr(policy, "MOST_COMMANDS_OF_A_PERSON", 2)
    handle = await unpaid_sale(harness)
    for _ in range(2):
        assert (await harness.cancel(handle, reason=" ")).code == "REASON_MISSING"
    before = await history_length(handle)
    assert await refusal(harness.cancel(handle)) == "too_many_commands"
    assert await refusal(harness.cash(handle, 14_700)) == "too_many_commands", "the till is the same person"
    assert await history_length(handle) == before
    manager = CancelCommand(actor="staff:2", reason="设备故障")
    answer = await handle.execute_update(
        names.UPDATE_CANCEL, manager, id="cancel-manager", result_type=CommandAnswer
    )
    assert answer.ok
    assert (await handle.result()).status == "cancelled"


async def test_payments_that_nothing_was_due_for_do_not_count(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Screens list a sale whose amount a person still decides: what they ask then must not shut them out later."""
    monkeypatch.setattr(policy, "MOST_ATTEMPTS", 3)
    sale = harness.sale(price_fen_per_unit=700, amount_fen=14_000)
    handle = await harness.start_sale(sale)
    await harness.until(ids.order_no_of_sale(sale.natural_key), "unpaid", needs="price_mismatch")
    for _ in range(3):
        assert await refusal(harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")) == "not_payable"
    assert (await harness.resolve(handle, ResolveAction.CHARGE_DEVICE_AMOUNT)).ok
    answer = await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    assert answer.state is PayState.WAITING


async def test_one_person_cannot_wear_a_return_run_out(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "MOST_COMMANDS_OF_A_PERSON", 2)
    harness.channel.script["refund"] = [RefundOutcome(kind=RefundKind.ABNORMAL, out_refund_no="")]
    order_no, _, run = await ended_sale_with_late_money(harness, 14_700)
    await harness.until(order_no, "completed", needs="refund_abnormal")
    counted = harness.counted_out(order_no)
    for _ in range(2):
        assert (await decide(run, ResolveAction.CASH_RETURNED, counted)).code == "NOT_WAITING"
    assert await refusal(decide(run, ResolveAction.CASH_RETURNED, counted)) == "too_many_commands"
    await run.terminate("end of the test")
