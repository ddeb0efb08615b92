"""A refund that the channel closed goes back under a new number, once, and never without the channel's word."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from activities.order_money import OrderMoneyActivities
from contracts.fill import ResolveAction
from contracts.orders import PostPayment, RenewRefund
from contracts.payment import AttemptRef, RefundOutcome
from db.unit_of_work import unit_of_work
from domain import ids
from domain.payment import PayMethod, RefundKind
from tests.workflows.harness import CIPHER, Handle, Harness
from tests.workflows.test_refund_decisions import decide, ended_sale_with_late_money

_REST_FEN = 5_300


async def closed_rest(harness: Harness, closes: int = 1) -> tuple[str, str, Handle]:
    """Fill less than was paid; the channel closes the refund of the rest. Return order, refund number and run."""
    harness.channel.refunds_to_close = closes
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="refund_closed")
    return request.order_no, ids.out_refund_no(ids.out_trade_no(request.order_no, 1), "rest"), handle


def refunds(harness: Harness, order_no: str) -> dict[str, str]:
    """Return the status of each refund number."""
    rows = harness.rows("SELECT * FROM refund WHERE order_no = :no", no=order_no)
    return {row["out_refund_no"]: row["status"] for row in rows}


async def asked_again(harness: Harness, order_no: str, count: int) -> None:
    """Wait until the channel has been asked for so many refunds, and a person again."""
    for _ in range(200):
        if harness.channel.count("refund") >= count:
            break
        await asyncio.sleep(0.05)
    await harness.until(order_no, "dispensed", needs="refund_closed")


async def test_a_retry_of_a_closed_refund_uses_a_new_number(harness: Harness) -> None:
    order_no, number, handle = await closed_rest(harness)
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    assert (await handle.result()).status == "completed"
    assert refunds(harness, order_no) == {number: "closed", f"{number}-2": "succeeded"}
    assert harness.channel.trades[ids.out_trade_no(order_no, 1)].refunds == {f"{number}-2": _REST_FEN}
    assert harness.order(order_no)["refunded_fen"] == _REST_FEN
    posted = harness.rows(
        "SELECT key FROM ledger_journal WHERE order_no = :no AND key LIKE 'refund:%'", no=order_no
    )
    assert [row["key"] for row in posted] == [f"refund:{number}-2"]
    harness.assert_money_closed(order_no)


async def test_a_refund_closed_again_and_again_gets_the_next_number_each_time(harness: Harness) -> None:
    order_no, number, handle = await closed_rest(harness, closes=2)
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    await asked_again(harness, order_no, 2)
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    assert (await handle.result()).status == "completed"
    found = refunds(harness, order_no)
    assert found == {number: "closed", f"{number}-2": "closed", f"{number}-3": "succeeded"}
    harness.assert_money_closed(order_no)


async def test_a_renewed_refund_ends_its_order_also_when_the_next_worker_s_clock_is_behind(
    harness: Harness,
) -> None:
    order_no, number, handle = await closed_rest(harness)
    harness.clock.offset = timedelta(seconds=-30)
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    assert (await handle.result()).status == "completed"
    assert refunds(harness, order_no) == {number: "closed", f"{number}-2": "succeeded"}
    harness.assert_money_closed(order_no)


async def test_the_renewed_refund_may_be_handed_back_in_cash_once(harness: Harness) -> None:
    order_no, number, handle = await closed_rest(harness, closes=2)
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    await asked_again(harness, order_no, 2)
    assert (await harness.resolve(handle, ResolveAction.CASH_RETURNED)).ok
    assert (await handle.result()).status == "completed"
    assert refunds(harness, order_no) == {number: "closed", f"{number}-2": "succeeded"}
    assert harness.balance("1010.cash", order_no) == -_REST_FEN
    assert harness.balance("2040", order_no) == 0


@pytest.mark.parametrize("kind", [RefundKind.UNKNOWN, RefundKind.SUCCEEDED])
async def test_no_new_number_unless_the_channel_confirms_that_the_old_one_is_closed(
    harness: Harness, kind: RefundKind
) -> None:
    order_no, number, handle = await closed_rest(harness)
    said = RefundOutcome(kind=kind, out_refund_no="", amount_fen=_REST_FEN)
    harness.channel.script["query_refund"] = [said]
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    await harness.until(order_no, needs="" if kind is RefundKind.UNKNOWN else None)
    if kind is RefundKind.SUCCEEDED:
        assert (await handle.result()).status == "completed"
    await asyncio.sleep(0.3)
    assert list(refunds(harness, order_no)) == [number]
    assert harness.channel.count("refund") == 1


async def test_held_money_whose_return_was_closed_goes_back_whole_under_a_new_number(
    harness: Harness,
) -> None:
    order_no, number, run = await ended_sale_with_late_money(harness, 1)
    await harness.until(order_no, "completed", needs="payment_amount_mismatch")
    harness.channel.refunds_to_close = 1
    assert (await decide(run, ResolveAction.RELEASE_HELD)).ok
    await harness.until(order_no, "completed", needs="refund_closed")
    assert (await decide(run, ResolveAction.RETRY_REFUND)).ok
    assert await run.result() == "returned"
    first = ids.out_refund_no(number, "mismatch")
    assert harness.channel.trades[number].refunds == {f"{first}-2": 1}
    assert harness.balance("2040", order_no) == 0


async def test_only_a_closed_number_is_replaced_and_only_once(harness: Harness) -> None:
    order_no, number, handle = await closed_rest(harness)
    money = OrderMoneyActivities(unit_of_work(harness.engine, CIPHER), harness.clock)

    def renew(refund_no: str) -> Any:
        return money.renew_refund(RenewRefund(order_no=order_no, out_refund_no=refund_no)).refund

    found = [renew(number) for _ in range(2)]
    assert found[0] == found[1]
    assert (found[0].out_refund_no, found[0].refund_fen) == (f"{number}-2", _REST_FEN)
    assert renew(f"{number}-2") is None
    assert renew(f"{number}-7") is None
    assert refunds(harness, order_no) == {number: "closed", f"{number}-2": "processing"}
    assert (await harness.resolve(handle, ResolveAction.RETRY_REFUND)).ok
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(order_no)


async def success_of_nothing(harness: Harness) -> tuple[str, str, Handle]:
    """A post-paid sale whose QR code the channel calls paid with 0 fen, not yet reported. Return order, number, run."""
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    number = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")).out_trade_no
    trade = harness.channel.trades[number]
    trade.state, trade.amount_fen = "SUCCESS", 0
    return order_no, number, handle


async def test_a_success_of_nothing_is_asked_for_again_when_the_first_answer_is_lost(
    harness: Harness,
) -> None:
    order_no, number, handle = await success_of_nothing(harness)
    ref = AttemptRef(out_trade_no=number, method=PayMethod.WECHAT_NATIVE, amount_fen=14_700)
    money = OrderMoneyActivities(unit_of_work(harness.engine, CIPHER), harness.clock)
    lost = money.post_payment(PostPayment(order_no=order_no, outcome=harness.channel.query(ref)))
    again = money.post_payment(PostPayment(order_no=order_no, outcome=harness.channel.query(ref)))
    assert (again.verdict, again.refund) == (lost.verdict, lost.refund)
    await harness.report(handle, number)
    for _ in range(100):
        answer = await harness.resolve(handle, ResolveAction.RELEASE_HELD)
        if answer.ok:
            break
        await asyncio.sleep(0.05)
    assert answer.ok, answer.message
    await harness.until(order_no, "unpaid", needs="")
    assert refunds(harness, order_no) == {}


async def test_a_success_of_nothing_is_seen_by_a_person_and_asks_nobody_any_more(harness: Harness) -> None:
    order_no, number, handle = await success_of_nothing(harness)
    await harness.report(handle, number)
    await harness.until(order_no, "unpaid", needs="payment_amount_mismatch")
    assert (await harness.resolve(handle, ResolveAction.RELEASE_HELD)).ok
    await harness.until(order_no, "unpaid", needs="")
    story = harness.rows("SELECT * FROM order_event WHERE order_no = :no AND kind = 'resolved'", no=order_no)
    assert [one["actor"] for one in story] == ["staff:1"]
    assert (refunds(harness, order_no), harness.channel.count("refund")) == ({}, 0)
    assert (await harness.cash(handle, 14_700)).ok
    assert (await handle.result()).paid_fen == 14_700
    harness.assert_money_closed(order_no)
