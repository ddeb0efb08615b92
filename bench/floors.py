"""The floors' drivers: the messages that a fill gets, sent by one client, eight in flight."""

import itertools
import time

from temporalio.client import Client, WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)

from bench import shapes
from bench.measure import Rate, closed_loop
from contracts import names
from contracts.fill import FillInput, FillResult, PayAnswer, PayCommand, StartAnswer, StartFill
from contracts.names import SearchAttribute
from contracts.payment import PaymentReported
from domain import ids
from domain.payment import PayMethod
from workflows.fill_and_pay import FillAndPay

IN_FLIGHT = 8
"""As many as the whole stack has fuelling points, or one more: a floor is driven like what stands on it."""


class Floors:
    """Drives the empty workflow and the empty-bodied shapes."""

    def __init__(self, client: Client, pids: dict[str, int]) -> None:
        self._client, self._pids = client, pids
        self._run = f"{time.time_ns():x}"
        self._number = itertools.count(1)

    async def empty(self, seconds: float) -> Rate:
        """Measure empty workflows."""
        return await closed_loop(self._empty, in_flight=IN_FLIGHT, seconds=seconds, pids=self._pids)

    async def prepaid(self, seconds: float) -> Rate:
        """Measure prepaid fills with empty bodies, the whole preset used."""
        return await closed_loop(self._prepaid, in_flight=IN_FLIGHT, seconds=seconds, pids=self._pids)

    async def postpaid(self, seconds: float) -> Rate:
        """Measure post-paid fills with empty bodies."""
        return await closed_loop(self._postpaid, in_flight=IN_FLIGHT, seconds=seconds, pids=self._pids)

    async def _empty(self, _number: int) -> None:
        await self._client.execute_workflow(
            shapes.Empty.run, id=f"empty-{self._run}-{next(self._number)}", task_queue=shapes.EMPTY_QUEUE
        )

    async def _prepaid(self, _number: int) -> None:
        order_no = ids.order_no_of_start("bench", f"{self._run}{next(self._number)}")
        request = StartFill(
            order_no=order_no,
            station_code="ST001",
            nozzle_no=1,
            amount_fen=shapes.DUE_FEN,
            price_fen_per_unit=735,
            price_version=1,
            method=PayMethod.WECHAT_JSAPI,
            body_hash="0" * 64,
            driver_id=1,
        )
        operation = WithStartWorkflowOperation(
            FillAndPay.run,
            FillInput(order_no=order_no, start=request),
            id=ids.fill_workflow_id(order_no),
            task_queue=shapes.SHAPE_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=_attributes(order_no, "awaiting_payment"),
            static_summary="预付 ST001 1号枪 ¥200.00",
        )
        await self._client.execute_update_with_start_workflow(
            names.UPDATE_START,
            request,
            id=f"start-{order_no}",
            start_workflow_operation=operation,
            result_type=StartAnswer,
        )
        handle = self._handle(order_no)
        report = PaymentReported(out_trade_no=ids.out_trade_no(order_no, 1))
        await handle.signal(names.SIGNAL_PAYMENT_REPORTED, report)
        await handle.result()

    def _handle(self, order_no: str) -> WorkflowHandle[FillAndPay, FillResult]:
        return self._client.get_workflow_handle(ids.fill_workflow_id(order_no), result_type=FillResult)

    async def _postpaid(self, _number: int) -> None:
        sale = shapes.sale_of(None, shapes.CHARGE_FEN, f"{self._run}{next(self._number)}")
        order_no = ids.order_no_of_sale(sale.natural_key)
        workflow_id = ids.fill_workflow_id(order_no)
        await self._client.start_workflow(
            FillAndPay.run,
            FillInput(order_no=order_no, sale=sale),
            id=workflow_id,
            task_queue=shapes.SHAPE_QUEUE,
            search_attributes=_attributes(order_no, "unpaid"),
        )
        handle = self._handle(order_no)
        pay = PayCommand(method=PayMethod.WECHAT_JSAPI, screen="phone", driver_id=1)
        answer = await handle.execute_update(names.UPDATE_PAY, pay, id="pay", result_type=PayAnswer)
        await handle.signal(names.SIGNAL_PAYMENT_REPORTED, PaymentReported(out_trade_no=answer.out_trade_no))
        await handle.result()


def _attributes(order_no: str, stage: str) -> TypedSearchAttributes:
    words = {
        SearchAttribute.OPERATOR: "OP001",
        SearchAttribute.STATION: "ST001",
        SearchAttribute.STAGE: stage,
        SearchAttribute.BUSINESS_NO: order_no,
    }
    pairs = [SearchAttributePair(SearchAttributeKey.for_keyword(k), v) for k, v in words.items()]
    needs = SearchAttributeKey.for_bool(SearchAttribute.NEEDS_PERSON)
    return TypedSearchAttributes([*pairs, SearchAttributePair(needs, False)])
