"""Fills that a person looks at: a case that is kept, a pump that sells again, money on the meter that is not cancelled."""

import pytest

from contracts.fill import ResolveAction, StartOutcome
from contracts.station import CommandState, EndReason
from domain import ids
from tests.workflows.harness import Harness


@pytest.mark.feature("003-K1")
@pytest.mark.parametrize(("device_fen", "is_case"), [(4_999, False), (5_000, True)])
async def test_a_legal_difference_above_one_fen_leaves_a_case(
    harness: Harness, device_fen: int, is_case: bool
) -> None:
    request, handle = await harness.start_authorised(amount_fen=5_000)
    await harness.complete(
        handle, harness.sale(order_no=request.order_no, quantity_milli=6_800, amount_fen=device_fen)
    )
    assert (await handle.result()).charge_fen == device_fen
    unpaid = harness.sale(quantity_milli=6_800, amount_fen=device_fen)
    await harness.start_sale(unpaid)
    own = ids.order_no_of_sale(unpaid.natural_key)
    await harness.until(own, "unpaid", needs="")
    for order_no in (request.order_no, own):
        found = harness.rows("SELECT * FROM order_event WHERE order_no = :no AND kind = 'case'", no=order_no)
        assert ["49.98" in one["detail"] and "50.00" in one["detail"] for one in found] == [True] * is_case
        sale = harness.row("SELECT * FROM sale WHERE order_no = :no", no=order_no)
        assert sale["flag"] == ("amount_case" if is_case else "")


async def test_a_flagged_fill_lets_the_pump_sell_again(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no, amount_fen=16_000))
    await harness.until(request.order_no, "authorised", needs="amount_mismatch")
    held = "SELECT holder_order_no FROM fuelling_point WHERE holder_order_no IS NOT NULL"
    assert harness.rows(held) == []
    following = harness.start_request()
    answer, _ = await harness.start(following)
    assert answer.outcome is StartOutcome.ACCEPTED
    assert (await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)).ok
    await handle.result()
    assert [row["holder_order_no"] for row in harness.rows(held)] == [following.order_no]


async def test_a_fill_rebuilt_from_the_totaliser_keeps_its_pump(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    sale = harness.sale(order_no=request.order_no, end_reason=EndReason.SYNTHESISED)
    await harness.complete(handle, sale)
    await harness.until(request.order_no, "authorised", needs="synthesised")
    held = harness.rows("SELECT holder_order_no FROM fuelling_point WHERE holder_order_no IS NOT NULL")
    assert [row["holder_order_no"] for row in held] == [request.order_no]


async def test_a_sale_whose_key_is_booked_elsewhere_asks_a_person_and_frees_the_pump(
    harness: Harness,
) -> None:
    first = harness.sale(amount_fen=147, quantity_milli=200)
    await harness.start_sale(first)
    await harness.until(ids.order_no_of_sale(first.natural_key), "unpaid")
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no, natural_key=first.natural_key))
    await harness.until(request.order_no, "authorised", needs="sale_key_taken")
    assert harness.rows("SELECT 1 FROM fuelling_point WHERE holder_order_no IS NOT NULL") == []
    assert (await harness.resolve(handle, ResolveAction.CHARGE_DEVICE_AMOUNT)).ok
    assert (await handle.result()).charge_fen == 14_700
    harness.assert_money_closed(request.order_no)


async def test_a_sale_at_a_price_of_nothing_is_charged_as_a_manager_decides(harness: Harness) -> None:
    free = harness.sale(price_fen_per_unit=0, amount_fen=0)
    handle = await harness.start_sale(free)
    order_no = ids.order_no_of_sale(free.natural_key)
    await harness.until(order_no, "unpaid", needs="price_mismatch")
    assert (await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)).ok
    assert (await harness.cash(handle, 14_700)).ok
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(order_no)


async def test_a_device_amount_beyond_every_till_is_not_charged(harness: Harness) -> None:
    absurd = harness.sale(price_fen_per_unit=2**40, amount_fen=2**70)
    handle = await harness.start_sale(absurd)
    order_no = ids.order_no_of_sale(absurd.natural_key)
    await harness.until(order_no, "unpaid", needs="out_of_range")
    refused = await harness.resolve(handle, ResolveAction.CHARGE_DEVICE_AMOUNT)
    assert (refused.ok, refused.code) == (False, "AMOUNT_TOO_LARGE")
    assert (await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)).ok
    assert (await harness.cash(handle, 14_700)).ok
    assert (await handle.result()).paid_fen == 14_700


async def test_driver_may_not_cancel_a_flagged_sale_with_money_on_the_meter(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    harness.stations.stop_answer = (CommandState.REFUSED, "NOT_AUTHORISED")
    sale = harness.sale(order_no=request.order_no, quantity_milli=0, amount_fen=5_000)
    await harness.complete(handle, sale)
    await harness.until(request.order_no, "authorised", needs="amount_mismatch")
    answer = await harness.cancel(handle)
    assert (answer.ok, answer.code) == (False, "FUELLING")
    assert harness.channel.count("refund") == 0
