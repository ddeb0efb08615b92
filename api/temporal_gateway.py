"""The one place of the API that talks to Temporal: start, update, signal; every call bounded in time.

A prepaid start is one update-with-start: the workflow starts (or is met) and answers with its quote in one round
trip. The update's validator would not stop the start, so everything is checked before.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from temporalio.client import (
    Client,
    RPCError,
    RPCTimeoutOrCancelledError,
    WithStartWorkflowOperation,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCStatusCode

from api.cash_returns import PARTLY_DONE
from api.ports import CommandRejectedError, OrderEndedError, OrderLabels, TemporalAwayError
from contracts.fill import (
    CancelCommand,
    CashCommand,
    CommandAnswer,
    FillInput,
    FillResult,
    PayAnswer,
    PayCommand,
    ResolveAction,
    ResolveCommand,
    StartAnswer,
    StartFill,
)
from contracts.names import (
    FILL_AND_PAY,
    FILL_TASK_QUEUE,
    RETURN_SURPLUS,
    SIGNAL_PAYMENT_REPORTED,
    UPDATE_CANCEL,
    UPDATE_PAY,
    UPDATE_RESOLVE,
    UPDATE_START,
    UPDATE_TAKE_CASH,
    SearchAttribute,
)
from contracts.payment import PaymentReported
from domain.ids import fill_workflow_id, order_no_of_trade, surplus_workflow_id
from domain.money import yuan
from domain.order import OrderStatus
from domain.payment import cash_returned_zh

T = TypeVar("T")

UPDATE_TIMEOUT = timedelta(seconds=15)
"""How long a person waits for an order's answer; the channel's own limit is 10 s."""
SIGNAL_TIMEOUT = timedelta(seconds=2)
"""A channel wants its notification answered within 5 s."""
LOOKUP_TIMEOUT = timedelta(seconds=3)

_NOT_ABOUT_IT = "CHANGED"
"""Code of a return run whose order asks for something else than the person decided about."""
_GONE = frozenset({RPCStatusCode.NOT_FOUND})
_REFUSED = frozenset({RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.PERMISSION_DENIED})


def _attributes(labels: OrderLabels, order_no: str, stage: str) -> TypedSearchAttributes:
    keyword = SearchAttributeKey.for_keyword
    return TypedSearchAttributes(
        [
            SearchAttributePair(keyword(SearchAttribute.OPERATOR), labels.operator_code),
            SearchAttributePair(keyword(SearchAttribute.STATION), labels.station_code),
            SearchAttributePair(keyword(SearchAttribute.STAGE), stage),
            SearchAttributePair(keyword(SearchAttribute.BUSINESS_NO), order_no),
            SearchAttributePair(SearchAttributeKey.for_bool(SearchAttribute.NEEDS_PERSON), False),
        ]
    )


async def _bounded(call: Awaitable[T], limit: timedelta) -> T:
    """Await a call to Temporal; no answer in time, or none at all, is TemporalAwayError."""
    try:
        return await asyncio.wait_for(call, limit.total_seconds())
    except (TimeoutError, RPCTimeoutOrCancelledError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
        raise TemporalAwayError("no answer in time") from error
    except RPCError as error:
        if error.status in _GONE:
            raise OrderEndedError("no such running workflow") from error
        if error.status in _REFUSED:
            raise
        raise TemporalAwayError(f"temporal: {error.status.name}") from error


def _rejection(error: WorkflowUpdateFailedError) -> CommandRejectedError:
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return CommandRejectedError(cause.type or "refused", cause.message)
    return CommandRejectedError("refused", "")


def _together(command: ResolveCommand, answers: list[CommandAnswer]) -> CommandAnswer:
    """Return one answer of several return runs: a person acted on the sum of what they have, so all of it counts.

    Cash that was counted out is told as done only when every refund of it was settled. Of another decision, a run
    that it is not about says nothing.
    """
    if command.action is ResolveAction.CASH_RETURNED:
        return _cash_together(command, answers)
    about = [one for one in answers if one.code != _NOT_ABOUT_IT] or answers
    refused = [one for one in about if not one.ok]
    if not refused or len(refused) == len(about):
        return about[0]
    return _partly(refused[0], f"只处理了一部分；另一部分：{refused[0].message}。请刷新后再处理")


def _cash_together(command: ResolveCommand, answers: list[CommandAnswer]) -> CommandAnswer:
    done = [one for one in answers if one.ok]
    refused = [one for one in answers if not one.ok]
    if not done:
        return _summed(next((one for one in refused if one.code != _NOT_ABOUT_IT), refused[0]), answers)
    whole = _summed(done[0], answers)
    fen, earlier_fen = whole.returned_fen, whole.earlier_fen
    if set(whole.returned).issuperset(command.refund_nos):
        return (
            replace(whole, message=cash_returned_zh(fen, earlier_fen=earlier_fen)) if earlier_fen else whole
        )
    partly = _partly((refused or done)[0], f"只登记了现金退还 {yuan(fen)} 元，其余未登记")
    return _summed(partly, answers)


def _summed(answer: CommandAnswer, answers: list[CommandAnswer]) -> CommandAnswer:
    """Return one run's answer with what all of them know of cash handed back."""
    return replace(
        answer,
        returned=tuple(number for one in answers for number in one.returned),
        returned_fen=sum(one.returned_fen for one in answers),
        earlier_fen=sum(one.earlier_fen for one in answers),
        by_others=tuple(number for one in answers for number in one.by_others),
        by_others_fen=sum(one.by_others_fen for one in answers),
    )


def _partly(answer: CommandAnswer, message: str) -> CommandAnswer:
    return replace(answer, ok=False, code=PARTLY_DONE, message=message)


def _start_update_id(fill: StartFill) -> str:
    """Same order and body: same update, first answer. Another body reaches the workflow, which refuses it."""
    return f"start-{fill.order_no}-{fill.body_hash[:16]}"


class ClientTemporalGateway:
    """`TemporalGateway` over a Temporal client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start_fill(self, fill: StartFill, labels: OrderLabels) -> StartAnswer:
        """Start the order by update-with-start; an order that has ended answers what it answered first.

        Raises TemporalAwayError when there was no answer in time; the same start may be sent again.
        """
        start: WithStartWorkflowOperation[Any, FillResult] = WithStartWorkflowOperation(
            FILL_AND_PAY,
            FillInput(order_no=fill.order_no, start=fill),
            id=fill_workflow_id(fill.order_no),
            task_queue=FILL_TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            static_summary=labels.summary,
            search_attributes=_attributes(labels, fill.order_no, OrderStatus.AWAITING_PAYMENT.value),
        )
        call = self._client.execute_update_with_start_workflow(
            UPDATE_START,
            fill,
            start_workflow_operation=start,
            id=_start_update_id(fill),
            result_type=StartAnswer,
        )
        try:
            return await _bounded(call, UPDATE_TIMEOUT)
        except (WorkflowAlreadyStartedError, OrderEndedError):
            return await self._first_answer(fill)
        except WorkflowUpdateFailedError as error:
            raise _rejection(error) from error

    async def _first_answer(self, fill: StartFill) -> StartAnswer:
        handle = self._client.get_workflow_handle(fill_workflow_id(fill.order_no), result_type=FillResult)
        update = handle.get_update_handle(_start_update_id(fill), result_type=StartAnswer)
        try:
            return await _bounded(update.result(), LOOKUP_TIMEOUT)
        except WorkflowUpdateFailedError as error:
            raise _rejection(error) from error
        except OrderEndedError:
            return await self._refusal(handle)

    async def _refusal(self, handle: WorkflowHandle[Any, FillResult]) -> StartAnswer:
        """Return why an order ended that never answered this start; a refused order keeps the reason."""
        try:
            result = await _bounded(handle.result(), LOOKUP_TIMEOUT)
        except WorkflowFailureError as error:
            raise OrderEndedError("the order ended without an answer") from error
        answer: StartAnswer | None = result.start
        if answer is None:
            raise OrderEndedError("the order has ended")
        return answer

    async def pay(self, order_no: str, command: PayCommand, update_id: str) -> PayAnswer:
        """Send the update `pay`."""
        return await self._update(order_no, UPDATE_PAY, command, update_id, PayAnswer)

    async def take_cash(self, order_no: str, command: CashCommand, update_id: str) -> CommandAnswer:
        """Send the update `take_cash`."""
        return await self._update(order_no, UPDATE_TAKE_CASH, command, update_id, CommandAnswer)

    async def cancel(self, order_no: str, command: CancelCommand, update_id: str) -> CommandAnswer:
        """Send the update `cancel`."""
        return await self._update(order_no, UPDATE_CANCEL, command, update_id, CommandAnswer)

    async def resolve(self, order_no: str, command: ResolveCommand, update_id: str) -> CommandAnswer:
        """Send the update `resolve`; when the order has ended, to every run that still returns money of it.

        All of them: the person saw one need and the sum of what its refunds owe, whichever run has them.
        """
        try:
            return await self._update(order_no, UPDATE_RESOLVE, command, update_id, CommandAnswer)
        except OrderEndedError:
            answers = [
                answer
                for run in await self._returns_of(order_no)
                if (answer := await self._resolve_return(run, command, update_id)) is not None
            ]
            if not answers:
                raise
            return _together(command, answers)

    async def _resolve_return(
        self, run: str, command: ResolveCommand, update_id: str
    ) -> CommandAnswer | None:
        """Send a decision to a return run; None when that has ended meanwhile, or waits for nothing."""
        try:
            answer = await self._update_run(run, UPDATE_RESOLVE, command, update_id, CommandAnswer)
        except OrderEndedError:
            return None
        is_silent = answer.code == "NOT_WAITING" and not answer.returned and not answer.by_others
        return None if is_silent else answer

    async def _returns_of(self, order_no: str) -> list[str]:
        """Return the ids of the ReturnSurplus runs of an order (eventually consistent).

        Also of those that have ended: a command that is repeated gets the answer that such a run gave.
        """
        query = f"WorkflowType = '{RETURN_SURPLUS}' AND {SearchAttribute.BUSINESS_NO} = '{order_no}'"

        async def listed() -> list[str]:
            return [run.id async for run in self._client.list_workflows(query)]

        return await _bounded(listed(), LOOKUP_TIMEOUT)

    async def _update(self, order_no: str, name: str, command: Any, update_id: str, answer: type[T]) -> T:
        return await self._update_run(fill_workflow_id(order_no), name, command, update_id, answer)

    async def _update_run(self, run: str, name: str, command: Any, update_id: str, answer: type[T]) -> T:
        handle = self._client.get_workflow_handle(run)
        try:
            sent = handle.execute_update(name, command, id=update_id, result_type=answer)
            return await _bounded(sent, UPDATE_TIMEOUT)
        except OrderEndedError:
            earlier = handle.get_update_handle(update_id, result_type=answer)
            return await self._earlier(earlier.result())
        except WorkflowUpdateFailedError as error:
            raise _rejection(error) from error

    async def _earlier(self, call: Awaitable[T]) -> T:
        """Return the answer that a repeated command got before its order ended."""
        try:
            return await _bounded(call, LOOKUP_TIMEOUT)
        except WorkflowUpdateFailedError as error:
            raise _rejection(error) from error

    async def report_payment(self, order_no: str, report: PaymentReported) -> None:
        """Signal FillAndPay that a channel reported something."""
        await self._signal(fill_workflow_id(order_no), report)

    async def report_surplus(self, report: PaymentReported) -> None:
        """Signal ReturnSurplus that a channel reported something."""
        await self._signal(surplus_workflow_id(report.out_trade_no), report)

    async def _signal(self, workflow_id: str, report: PaymentReported) -> None:
        handle = self._client.get_workflow_handle(workflow_id)
        await _bounded(handle.signal(SIGNAL_PAYMENT_REPORTED, report), SIGNAL_TIMEOUT)

    async def return_surplus(self, report: PaymentReported, labels: OrderLabels) -> None:
        """Start ReturnSurplus once for this payment."""
        start = self._client.start_workflow(
            RETURN_SURPLUS,
            report,
            id=surplus_workflow_id(report.out_trade_no),
            task_queue=FILL_TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            static_summary=labels.summary,
            search_attributes=_attributes(labels, order_no_of_trade(report.out_trade_no), "surplus"),
        )
        try:
            await _bounded(start, SIGNAL_TIMEOUT)
        except WorkflowAlreadyStartedError:
            return

    async def check(self) -> None:
        """Ask the server for its health."""
        healthy = await _bounded(self._client.service_client.check_health(), LOOKUP_TIMEOUT)
        if not healthy:
            raise TemporalAwayError("temporal is not serving")
