"""Temporal's own cancellation, from its page, ends no run: refunds and a released pump would be left behind."""

import asyncio

import pytest
from temporalio.client import WorkflowExecutionStatus

from contracts.fill import ResolveAction
from domain.payment import RefundKind
from tests.workflows.harness import Handle, Harness
from tests.workflows.test_refund_decisions import rest_that_waits

_METADATA = "__temporal_workflow_metadata"


async def details_of(handle: Handle) -> str:
    """Return what the Temporal page shows as the run's current details."""
    found = await handle.query(_METADATA)
    return str(found.current_details)


async def test_a_cancelled_run_keeps_its_open_refund(harness: Harness) -> None:
    order_no, handle = await rest_that_waits(harness, RefundKind.ABNORMAL)
    await handle.cancel()
    await asyncio.sleep(1)
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    assert "请求取消，未执行" in await details_of(handle)
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(order_no)


@pytest.mark.parametrize("cached", [True, False])
async def test_a_cancelled_run_goes_on_on_another_worker(harness: Harness, cached: bool) -> None:
    own = harness.on_own_queue()
    async with own.worker(cached=cached):
        request, handle = await own.start_authorised()
        await handle.cancel()
        await asyncio.sleep(0.5)
    async with own.worker(cached=cached):
        await own.complete(handle, own.sale(order_no=request.order_no))
        assert (await handle.result()).status == "completed"
    own.assert_money_closed(request.order_no)
    await own.end_all()
