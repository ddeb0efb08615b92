"""Telling workflows: a sale goes to its order, or starts the order that it is; late results go to the order."""

import asyncio
from collections.abc import Callable
from typing import Any

from temporalio.client import Client
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from contracts.fill import FillInput
from contracts.names import (
    FILL_AND_PAY,
    FILL_TASK_QUEUE,
    SIGNAL_COMMAND_REPORTED,
    SIGNAL_FILL_COMPLETED,
    SearchAttribute,
)
from contracts.station import CommandResult, SaleRecord
from domain.ids import fill_workflow_id, order_no_of_sale
from domain.money import yuan
from domain.order import OrderStatus
from domain.quantity import quantity_text
from station_gateway.server.ports import DeskError

SIGNALLED, STARTED, ZERO, ENDED = "signalled", "started", "zero", "order_ended"

_OPERATOR = SearchAttributeKey.for_keyword(SearchAttribute.OPERATOR.value)
_STATION = SearchAttributeKey.for_keyword(SearchAttribute.STATION.value)
_STAGE = SearchAttributeKey.for_keyword(SearchAttribute.STAGE.value)
_NEEDS_PERSON = SearchAttributeKey.for_bool(SearchAttribute.NEEDS_PERSON)
_BUSINESS_NO = SearchAttributeKey.for_keyword(SearchAttribute.BUSINESS_NO.value)


class TemporalDesk:
    """Signals and starts FillAndPay; workflow ids are derived, so a repeated call meets its own effect."""

    def __init__(self, client: Client, operator_of: Callable[[str], str | None]) -> None:
        self._client = client
        self._operator_of = operator_of
        self._operators: dict[str, str] = {}

    async def tell_sale(self, sale: SaleRecord) -> str:
        """Return SIGNALLED, STARTED, or why there was nothing to tell. Raises DeskError.

        A sale whose order has already ended is fuel that nobody paid, or may be: it becomes a post-paid order of its own.
        """
        if sale.order_no is not None and await self._signal(sale.order_no, SIGNAL_FILL_COMPLETED, sale):
            return SIGNALLED
        if not sale.may_be_fuel:
            return ZERO if sale.order_no is None else ENDED
        await self._start(sale)
        return STARTED

    async def tell_result(self, result: CommandResult) -> None:
        """Signal a result; an order that has ended needs it no more. Raises DeskError."""
        await self._signal(result.order_no, SIGNAL_COMMAND_REPORTED, result)

    async def _signal(self, order_no: str, signal: str, message: SaleRecord | CommandResult) -> bool:
        handle = self._client.get_workflow_handle(fill_workflow_id(order_no))
        try:
            await handle.signal(signal, message)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise DeskError(str(error)) from error
        return True

    async def _start(self, sale: SaleRecord) -> None:
        order_no = order_no_of_sale(sale.natural_key)
        pairs: list[SearchAttributePair[Any]] = [
            SearchAttributePair(_STATION, sale.station_code),
            SearchAttributePair(_STAGE, OrderStatus.UNPAID.value),
            SearchAttributePair(_BUSINESS_NO, order_no),
            SearchAttributePair(_NEEDS_PERSON, False),
        ]
        operator = await self._operator(sale.station_code)
        if operator:
            pairs.append(SearchAttributePair(_OPERATOR, operator))
        try:
            await self._client.start_workflow(
                FILL_AND_PAY,
                FillInput(order_no=order_no, sale=sale),
                id=fill_workflow_id(order_no),
                task_queue=FILL_TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=TypedSearchAttributes(pairs),
                static_summary=_summary(sale),
            )
        except WorkflowAlreadyStartedError:
            return
        except RPCError as error:
            raise DeskError(str(error)) from error

    async def _operator(self, station_code: str) -> str:
        known = self._operators.get(station_code)
        if known is None:
            known = await asyncio.to_thread(self._operator_of, station_code) or ""
            if known:
                self._operators[station_code] = known
        return known


def _summary(sale: SaleRecord) -> str:
    """Return the line that ops staff read in the list."""
    quantity = f"{quantity_text(sale.quantity_milli)} {sale.unit.label_zh}"
    return f"后付 {sale.station_code} 加注点 {sale.node}-{sale.fp - 0x20} {quantity} ¥{yuan(sale.amount_fen)}"
