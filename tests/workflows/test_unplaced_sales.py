"""Fuel at a nozzle that nobody has set up: ops staff see it, and it becomes an order once the nozzle is there."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from contracts.fill import FillInput, ResolveAction
from contracts.names import SearchAttribute
from contracts.station import SaleRecord
from domain import ids, policy
from domain.payment import PayMethod
from tests.workflows.harness import Handle, Harness
from tests.workflows.test_cancelled_run import details_of
from tests.workflows.test_deadlines import skip
from workflows.fill_and_pay import FillAndPay


async def needs_person(handle: Handle) -> bool | None:
    """Return what the list of runs can be filtered by."""
    told = (await handle.describe()).typed_search_attributes
    found: dict[str, Any] = {pair.key.name: pair.value for pair in told}
    return found.get(SearchAttribute.NEEDS_PERSON)


async def unplaced(harness: Harness, device_nozzle: int, **changes: Any) -> tuple[SaleRecord, Handle]:
    """Start the run of a sale whose nozzle nobody has set up, and wait until it asks for a person."""
    sale = harness.sale(nozzle=device_nozzle, **changes)
    handle = await harness.start_sale(sale)
    for _ in range(200):
        if await needs_person(handle):
            return sale, handle
        await asyncio.sleep(0.05)
    raise AssertionError("nobody is told of fuel at an unknown nozzle")


def set_up(harness: Harness, device_nozzle: int) -> None:
    """Set up a nozzle beside nozzle 1, of the same fuelling point and product."""
    with harness.engine.begin() as db:
        db.execute(
            text(
                "INSERT INTO nozzle (number, device_nozzle, station_id, fuelling_point_id, product_id, unit,"
                " prepaid_allowed, postpaid_allowed, is_open, code_version)"
                " SELECT 90 + :device, :device, station_id, fuelling_point_id, product_id, unit,"
                " prepaid_allowed, postpaid_allowed, is_open, code_version FROM nozzle WHERE number = 1"
            ),
            {"device": device_nozzle},
        )


async def test_fuel_at_an_unknown_nozzle_is_seen_by_somebody(harness: Harness) -> None:
    sale, handle = await unplaced(harness, 5)
    details = await details_of(handle)
    for told in (sale.station_code, "节点 1", "加注点 1", "设备枪号 5", "20.00 升", "147.00 元", "需要人工"):
        assert told in details
    status = await handle.query(FillAndPay.status)
    assert (status.status, status.needs_person) == (None, "place_unknown")
    assert harness.rows("SELECT 1 FROM sale WHERE natural_key = :n", n=sale.natural_key) == []


async def test_a_cancelled_run_keeps_the_fuel_of_an_unknown_nozzle(harness: Harness) -> None:
    _, handle = await unplaced(harness, 5)
    await handle.cancel()
    await asyncio.sleep(1)
    details = await details_of(handle)
    assert "请求取消，未执行" in details
    assert "设备枪号 5" in details


async def test_a_sale_opens_by_itself_once_its_nozzle_is_set_up(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    sale, handle = await unplaced(skipping, 6)
    order_no = ids.order_no_of_sale(sale.natural_key)
    set_up(skipping, 6)
    await skip(time_skipping_env, skipping, policy.PLACE_ASK_LADDER[0])
    await skipping.until(order_no, "unpaid", needs="")
    assert (await skipping.cash(handle, 14_700)).ok
    assert (await handle.result()).status == "completed"
    assert await needs_person(handle) is False
    skipping.assert_money_closed(order_no)


async def test_a_sale_that_opens_late_and_is_flagged_still_needs_a_person(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    sale, handle = await unplaced(skipping, 7, amount_fen=99_900)
    set_up(skipping, 7)
    await skip(time_skipping_env, skipping, policy.PLACE_ASK_LADDER[0])
    await skipping.until(ids.order_no_of_sale(sale.natural_key), "unpaid", needs="amount_mismatch")
    assert await needs_person(handle) is True
    assert (await skipping.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=0)).ok
    assert (await handle.result()).status == "cancelled"


async def test_a_nozzle_that_is_never_set_up_fills_no_history(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    _, handle = await unplaced(skipping, 8)
    await skip(time_skipping_env, skipping, timedelta(days=1))
    before = (await handle.describe()).history_length
    await skip(time_skipping_env, skipping, timedelta(days=10))
    grown = (await handle.describe()).history_length - before
    assert 0 < grown <= 10 * 4 * 8, f"{grown} events in ten days"


async def test_commands_to_an_order_that_is_not_open_are_refused_and_not_kept_for_later(
    skipping: Harness, time_skipping_env: WorkflowEnvironment
) -> None:
    sale, handle = await unplaced(skipping, 4)
    for command in (
        skipping.pay(handle, PayMethod.WECHAT_NATIVE),
        skipping.cash(handle, 14_700),
        skipping.cancel(handle),
        skipping.resolve(handle, ResolveAction.CHARGE_DEVICE_AMOUNT),
    ):
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await command
        assert isinstance(refused.value.cause, ApplicationError)
        assert refused.value.cause.type == "NOT_OPEN"
    await skipping.report(handle, ids.out_trade_no(ids.order_no_of_sale(sale.natural_key), 1))
    await skipping.complete(handle, sale)
    set_up(skipping, 4)
    await skip(time_skipping_env, skipping, policy.PLACE_ASK_LADDER[0])
    order = await skipping.until(ids.order_no_of_sale(sale.natural_key), "unpaid", needs="")
    assert (order["paid_fen"], order["charge_fen"]) == (0, 14_700)
    assert (await skipping.cash(handle, 14_700)).ok
    assert (await handle.result()).status == "completed"


async def test_a_command_does_not_hold_up_a_run_whose_sale_another_order_has(harness: Harness) -> None:
    sale = harness.sale()
    await harness.start_sale(sale)
    await harness.until(ids.order_no_of_sale(sale.natural_key), "unpaid")
    own = harness.on_own_queue()
    order_no = ids.order_no_of_sale(f"{sale.natural_key}-again")
    handle = await harness.client.start_workflow(
        FillAndPay.run,
        FillInput(order_no=order_no, sale=sale),
        id=ids.fill_workflow_id(order_no),
        task_queue=own.queue,
        task_timeout=own.task_timeout,
    )
    paying = asyncio.ensure_future(own.cash(handle, 14_700))
    await asyncio.sleep(0.5)
    async with own.worker():
        with pytest.raises(WorkflowUpdateFailedError):
            await paying
        assert (await handle.result()).status is None
