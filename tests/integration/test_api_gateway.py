"""The API's gateway to Temporal against a real server: update-with-start, repeats, ends, silence."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from api import temporal_gateway
from api.ports import CommandRejectedError, OrderEndedError, OrderLabels, TemporalAwayError
from api.temporal_gateway import ClientTemporalGateway
from contracts import names
from contracts.fill import (
    CancelCommand,
    CashCommand,
    CommandAnswer,
    FillInput,
    FillResult,
    PayAnswer,
    PayCommand,
    PayState,
    ResolveAction,
    ResolveCommand,
    StartAnswer,
    StartFill,
    StartOutcome,
)
from contracts.payment import PaymentReported
from domain.ids import fill_workflow_id, order_no_of_start, out_trade_no, surplus_workflow_id
from domain.order import OrderStatus
from domain.payment import PayMethod

LABELS = OrderLabels(operator_code="OPA", station_code="ST001", summary="预付 ST001 3号枪 ¥200.00")
REFUSED_AMOUNT = 13


@workflow.defn(name=names.FILL_AND_PAY)
class OrderDouble:
    """Answers like an order does, without any activity: a refused start ends, a cancelled order ends."""

    def __init__(self) -> None:
        self._ended = False
        self._reports = 0

    @workflow.run
    async def run(self, request: FillInput) -> FillResult:
        assert request.start is not None
        answer = self._answer(request.start)
        if answer.outcome is not StartOutcome.ACCEPTED:
            await workflow.wait_condition(workflow.all_handlers_finished)
            return FillResult(order_no=request.order_no, status=None, start=answer)
        await workflow.wait_condition(lambda: self._ended and workflow.all_handlers_finished())
        return FillResult(order_no=request.order_no, status=OrderStatus.CANCELLED)

    def _answer(self, start: StartFill) -> StartAnswer:
        refused = start.amount_fen == REFUSED_AMOUNT
        outcome = StartOutcome.NOZZLE_TAKEN if refused else StartOutcome.ACCEPTED
        return StartAnswer(outcome=outcome, order_no=start.order_no, amount_fen=start.amount_fen)

    @workflow.update(name=names.UPDATE_START)
    async def start(self, request: StartFill) -> StartAnswer:
        return self._answer(request)

    @workflow.update(name=names.UPDATE_PAY)
    async def pay(self, command: PayCommand) -> PayAnswer:
        return PayAnswer(state=PayState.WAITING, message=str(self._reports))

    @workflow.update(name=names.UPDATE_TAKE_CASH)
    async def take_cash(self, command: CashCommand) -> CommandAnswer:
        return CommandAnswer(ok=True, status=OrderStatus.COMPLETED)

    @take_cash.validator
    def check_cash(self, command: CashCommand) -> None:
        if command.received_fen == REFUSED_AMOUNT:
            raise ApplicationError("金额不符", type="AMOUNT_DIFFERS")

    @workflow.update(name=names.UPDATE_RESOLVE)
    async def resolve(self, command: ResolveCommand) -> CommandAnswer:
        await workflow.wait_condition(lambda: False)
        return CommandAnswer(ok=True, status=None)

    @workflow.update(name=names.UPDATE_CANCEL)
    async def cancel(self, command: CancelCommand) -> CommandAnswer:
        self._ended = True
        return CommandAnswer(ok=True, status=OrderStatus.CANCELLED, message=command.reason)

    @workflow.signal(name=names.SIGNAL_PAYMENT_REPORTED)
    async def reported(self, report: PaymentReported) -> None:
        self._reports += 1


@workflow.defn(name=names.RETURN_SURPLUS)
class SurplusDouble:
    """Waits until a refund is reported."""

    def __init__(self) -> None:
        self._done = False

    @workflow.run
    async def run(self, report: PaymentReported) -> str:
        await workflow.wait_condition(lambda: self._done and workflow.all_handlers_finished())
        return report.out_trade_no

    @workflow.update(name=names.UPDATE_RESOLVE)
    async def resolve(self, command: ResolveCommand) -> CommandAnswer:
        return CommandAnswer(ok=True, status=OrderStatus.COMPLETED, message=command.note)

    @workflow.signal(name=names.SIGNAL_PAYMENT_REPORTED)
    async def reported(self, report: PaymentReported) -> None:
        self._done = True


_count = iter(range(1, 10_000))


def _fill(amount_fen: int = 20_000, body_hash: str = "a" * 64) -> StartFill:
    return StartFill(
        order_no=order_no_of_start("gateway-test", str(next(_count))),
        station_code="ST001",
        nozzle_no=3,
        amount_fen=amount_fen,
        price_fen_per_unit=785,
        price_version=1,
        method=PayMethod.WECHAT_JSAPI,
        body_hash=body_hash,
    )


@pytest.fixture(scope="module")
async def gateway(temporal_env: object) -> AsyncIterator[ClientTemporalGateway]:
    """A gateway with a worker behind it."""
    client: Client = temporal_env.client  # type: ignore[attr-defined]
    worker = Worker(
        client,
        task_queue=names.FILL_TASK_QUEUE,
        workflows=[OrderDouble, SurplusDouble],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker:
        yield ClientTemporalGateway(client)


async def test_a_start_answers_and_carries_its_labels(
    gateway: ClientTemporalGateway, temporal_client: Client
) -> None:
    fill = _fill()
    answer = await gateway.start_fill(fill, LABELS)
    assert answer.outcome is StartOutcome.ACCEPTED
    assert answer.amount_fen == 20_000
    described = await temporal_client.get_workflow_handle(fill_workflow_id(fill.order_no)).describe()
    assert await described.static_summary() == LABELS.summary
    own = {a.value for a in names.SearchAttribute}
    found = {p.key.name: p.value for p in described.typed_search_attributes if p.key.name in own}
    assert found == {
        "Operator": "OPA",
        "Station": "ST001",
        "Stage": "awaiting_payment",
        "BusinessNo": fill.order_no,
        "NeedsPerson": False,
    }


async def test_a_repeated_start_meets_itself(gateway: ClientTemporalGateway) -> None:
    fill = _fill()
    answers = await asyncio.gather(*(gateway.start_fill(fill, LABELS) for _ in range(4)))
    assert len(set(map(repr, answers))) == 1


async def test_a_start_that_was_refused_answers_the_same_again(gateway: ClientTemporalGateway) -> None:
    fill = _fill(REFUSED_AMOUNT)
    for _ in range(3):
        assert (await gateway.start_fill(fill, LABELS)).outcome is StartOutcome.NOZZLE_TAKEN
        await asyncio.sleep(0.2)


async def test_a_start_after_the_order_ended_answers_what_it_answered_first(
    gateway: ClientTemporalGateway,
) -> None:
    fill = _fill()
    first = await gateway.start_fill(fill, LABELS)
    await gateway.cancel(fill.order_no, CancelCommand(actor="driver:1", reason="不加了"), "cancel-x")
    await asyncio.sleep(0.3)
    assert await gateway.start_fill(fill, LABELS) == first


async def test_another_body_reaches_the_order_itself(gateway: ClientTemporalGateway) -> None:
    fill = _fill()
    await gateway.start_fill(fill, LABELS)
    other = replace(fill, amount_fen=30_000, body_hash="b" * 64)
    assert (await gateway.start_fill(other, LABELS)).amount_fen == 30_000, "not the first body's answer"


async def test_a_repeated_command_gets_its_first_answer_also_after_the_end(
    gateway: ClientTemporalGateway,
) -> None:
    fill = _fill()
    await gateway.start_fill(fill, LABELS)
    command = CancelCommand(actor="staff:1", reason="顾客离开")
    first = await gateway.cancel(fill.order_no, command, "cancel-1")
    await asyncio.sleep(0.3)
    again = await gateway.cancel(fill.order_no, replace(command, reason="other"), "cancel-1")
    assert first == again
    with pytest.raises(OrderEndedError):
        await gateway.cancel(fill.order_no, command, "cancel-2")


async def test_a_rejected_update_is_a_typed_refusal(gateway: ClientTemporalGateway) -> None:
    fill = _fill()
    await gateway.start_fill(fill, LABELS)
    with pytest.raises(CommandRejectedError) as caught:
        await gateway.take_cash(fill.order_no, CashCommand(cashier_id=1, received_fen=REFUSED_AMOUNT), "c-1")
    assert (caught.value.code, caught.value.message) == ("AMOUNT_DIFFERS", "金额不符")


async def test_silence_is_temporal_away(
    gateway: ClientTemporalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = _fill()
    await gateway.start_fill(fill, LABELS)
    monkeypatch.setattr(temporal_gateway, "UPDATE_TIMEOUT", timedelta(seconds=0.5))
    command = ResolveCommand(actor="staff:1", action=ResolveAction.WRITE_OFF, note="等")
    with pytest.raises(TemporalAwayError):
        await gateway.resolve(fill.order_no, command, "resolve-1")


async def test_orders_that_never_were_are_ended(gateway: ClientTemporalGateway) -> None:
    report = PaymentReported(out_trade_no=out_trade_no("P" + "Y" * 21, 1))
    with pytest.raises(OrderEndedError):
        await gateway.report_payment("P" + "Y" * 21, report)
    with pytest.raises(OrderEndedError):
        await gateway.report_surplus(report)
    with pytest.raises(OrderEndedError):
        await gateway.pay("P" + "Y" * 21, PayCommand(method=PayMethod.WECHAT_NATIVE, screen="kiosk"), "p-1")


async def test_reports_reach_the_order(gateway: ClientTemporalGateway) -> None:
    fill = _fill()
    await gateway.start_fill(fill, LABELS)
    report = PaymentReported(out_trade_no=out_trade_no(fill.order_no, 1))
    await gateway.report_payment(fill.order_no, report)
    command = PayCommand(method=PayMethod.WECHAT_NATIVE, screen="kiosk")
    assert (await gateway.pay(fill.order_no, command, "pay-1")).message == "1"


async def test_a_surplus_is_returned_once(gateway: ClientTemporalGateway, temporal_client: Client) -> None:
    trade_no = out_trade_no(order_no_of_start("gateway-test", "surplus"), 1)
    report = PaymentReported(out_trade_no=trade_no)
    await gateway.return_surplus(report, LABELS)
    await gateway.return_surplus(report, LABELS)
    await gateway.report_surplus(report)
    handle = temporal_client.get_workflow_handle(surplus_workflow_id(trade_no), result_type=str)
    assert await asyncio.wait_for(handle.result(), 10) == trade_no
    await gateway.return_surplus(report, LABELS)
    assert (await handle.describe()).close_time is not None, "an ended return is not started again"


async def test_a_decision_on_an_ended_order_reaches_the_run_that_returns_its_money(
    gateway: ClientTemporalGateway,
) -> None:
    fill = _fill()
    report = PaymentReported(out_trade_no=out_trade_no(fill.order_no, 1))
    await gateway.return_surplus(report, LABELS)
    command = ResolveCommand(actor="staff:1", action=ResolveAction.RETRY_REFUND, note="已核对")
    for attempt in range(50):
        try:
            answer = await gateway.resolve(fill.order_no, command, f"resolve-{attempt}")
            break
        except OrderEndedError:
            await asyncio.sleep(0.2)
    assert (answer.ok, answer.message) == (True, "已核对")
    await gateway.report_surplus(report)


async def test_health(gateway: ClientTemporalGateway) -> None:
    await gateway.check()
