"""A sale rebuilt without a totaliser reading: its quantity of nothing means that nobody knows, so a person decides."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from contracts.fill import ResolveAction
from contracts.station import CommandState, EndReason, SaleRecord
from domain import ids, policy
from tests.workflows.harness import Harness
from workflows.fill_and_pay import FillAndPay


def unknown_quantity(harness: Harness, order_no: str) -> SaleRecord:
    """Return the sale of an order whose transaction is lost and whose totaliser could not be read."""
    return harness.sale(order_no=order_no, end_reason=EndReason.SYNTHESISED, quantity_milli=0, amount_fen=0)


async def end_at_zero(harness: Harness, sale: SaleRecord) -> None:
    """A person finds out that a late sale was no fuel: its own order ends at nothing."""
    own = ids.order_no_of_sale(sale.natural_key)
    await harness.until(own, "unpaid", needs="unexpected")
    why = harness.rows("SELECT detail FROM order_event WHERE order_no = :no AND kind = 'flagged'", no=own)
    assert ["不明" in row["detail"] for row in why] == [True]
    handle: Any = harness.client.get_workflow_handle_for(FillAndPay.run, ids.fill_workflow_id(own))
    harness.handles.append(handle)
    assert (await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=0)).ok
    assert (await handle.result()).status == "cancelled"
    harness.assert_money_closed(own)


async def test_late_rebuilt_sale_of_unknown_quantity_is_seen(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "FILL_ATTENTION_AFTER", timedelta(seconds=1))
    monkeypatch.setattr(policy, "WITHDRAW_LADDER", (timedelta(seconds=1),))
    request, handle = await harness.start_authorised()
    await harness.until(request.order_no, "authorised", needs="fill_not_reported")
    harness.stations.silent = True
    assert (await harness.resolve(handle, ResolveAction.NOTHING_DISPENSED)).ok
    await harness.until(request.order_no, "refunded")
    sale = unknown_quantity(harness, request.order_no)
    await harness.complete(handle, sale)
    harness.stations.silent, harness.stations.stop_answer = False, (CommandState.REFUSED, "FUELLING")
    await handle.result()
    await end_at_zero(harness, sale)
    harness.assert_money_closed(request.order_no)


async def test_a_rebuilt_sale_of_unknown_quantity_that_a_cancel_overtakes_is_seen(harness: Harness) -> None:
    """The sale is there before the order has settled or ended; short workflow tasks let it in meanwhile."""
    own = harness.on_own_queue()
    async with own.worker():
        request, handle = await own.start_authorised()
        sale = unknown_quantity(own, request.order_no)
        with own.engine.begin() as db:
            lock = text("SELECT 1 FROM fuel_order WHERE order_no = :no FOR UPDATE")
            db.execute(lock, {"no": request.order_no})
            cancelled = asyncio.ensure_future(own.cancel(handle))
            await asyncio.sleep(0.5)
            await own.complete(handle, sale)
            await asyncio.sleep(4)
        assert (await cancelled).ok
        await handle.result()
        await end_at_zero(own, sale)
    own.assert_money_closed(request.order_no)
    await own.end_all()


async def test_a_rebuilt_sale_of_unknown_quantity_is_no_reason_to_cancel(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    await harness.complete(handle, unknown_quantity(harness, request.order_no))
    await harness.until(request.order_no, "authorised", needs="synthesised")
    harness.stations.stop_answer = (CommandState.REFUSED, "NOT_AUTHORISED")
    refused = await harness.cancel(handle)
    assert (refused.ok, refused.code) == (False, "FUELLING")
    assert harness.channel.count("refund") == 0
    assert (await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=0)).ok
    assert (await handle.result()).status == "refunded"
    harness.assert_money_closed(request.order_no)
