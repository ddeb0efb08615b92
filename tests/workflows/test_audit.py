"""What an outside auditor tried to break: each test is one way in which money or fuel could have gone astray."""

from contracts.fill import ResolveAction
from contracts.station import CommandState
from tests.workflows.harness import Harness


async def test_cancel_after_a_flagged_sale_keeps_the_money_for_the_decision(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no, amount_fen=99_900))
    await harness.until(request.order_no, "authorised", needs="amount_mismatch")
    harness.stations.stop_answer = (CommandState.REFUSED, "NOT_AUTHORISED")
    answer = await harness.cancel(handle)
    assert not answer.ok
    assert harness.channel.count("refund") == 0
    assert (await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)).ok
    assert (await handle.result()).charge_fen == 14_700
    harness.assert_money_closed(request.order_no)
