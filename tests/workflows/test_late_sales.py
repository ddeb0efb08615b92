"""Fuel on an order whose money is already on its way back has an order of its own at once, not only at the end."""

import pytest

from contracts.fill import ResolveAction
from contracts.payment import RefundOutcome
from contracts.station import EndReason
from domain import ids
from domain.payment import RefundKind
from tests.workflows.harness import Harness


async def test_fuel_on_an_order_whose_refund_waits_has_an_order(harness: Harness) -> None:
    harness.channel.script["refund"] = [RefundOutcome(kind=RefundKind.ABNORMAL, out_refund_no="")]
    request, handle = await harness.start_authorised()
    assert (await harness.cancel(handle)).ok
    await harness.until(request.order_no, "refunding", needs="refund_abnormal")
    sale = harness.sale(order_no=request.order_no)
    await harness.complete(handle, sale)
    own = ids.order_no_of_sale(sale.natural_key)
    await harness.until(own, "unpaid", needs="unexpected")
    assert harness.row("SELECT order_no FROM sale WHERE natural_key = :n", n=sale.natural_key) == {
        "order_no": own
    }
    assert harness.order(request.order_no)["status"] == "refunding"


async def test_fuel_on_an_order_whose_amount_waits_has_an_order(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no, amount_fen=99_900))
    await harness.until(request.order_no, "authorised", needs="amount_mismatch")
    second = harness.sale(order_no=request.order_no)
    await harness.complete(handle, second)
    await harness.until(ids.order_no_of_sale(second.natural_key), "unpaid", needs="unexpected")
    assert harness.order(request.order_no)["needs_person"] == "amount_mismatch"


@pytest.mark.feature("003-D3")
async def test_the_transaction_of_a_rebuilt_sale_is_charged_by_nobody_but_a_person(harness: Harness) -> None:
    """The same fuel twice: the order waits for its rebuilt sale, the transaction told late waits beside it."""
    request, handle = await harness.start_authorised()
    rebuilt = harness.sale(order_no=request.order_no, end_reason=EndReason.SYNTHESISED)
    await harness.complete(handle, rebuilt)
    await harness.until(request.order_no, "authorised", needs="synthesised")
    told_late = harness.sale(order_no=request.order_no)
    await harness.complete(handle, told_late)
    own = await harness.until(ids.order_no_of_sale(told_late.natural_key), "unpaid", needs="unexpected")
    assert own["charge_fen"] == 0
    assert (await harness.resolve(handle, ResolveAction.CHARGE_DEVICE_AMOUNT)).ok
    assert (await handle.result()).charge_fen == rebuilt.amount_fen
