"""Prepaid fills: the happy paths and every defined answer when something is not as quoted."""

from datetime import timedelta

import pytest

from contracts.fill import ResolveAction, StartOutcome
from contracts.payment import PaymentReported
from contracts.station import CommandResult, CommandState, EndReason
from domain import ids
from domain.payment import PayMethod
from domain.quantity import Unit
from tests.workflows.harness import OPENID, Harness
from workflows.fill_and_pay import FillAndPay

UNITS = [
    pytest.param(1, 1, 0x21, 1, Unit.LITRE, 735, id="litre"),
    pytest.param(7, 3, 0x21, 1, Unit.CUBIC_METRE, 498, id="cubic-metre"),
    pytest.param(8, 4, 0x21, 1, Unit.KILOGRAM, 620, id="kilogram"),
    pytest.param(9, 5, 0x21, 1, Unit.KILOWATT_HOUR, 150, id="kilowatt-hour"),
]


@pytest.mark.feature("002-4")
@pytest.mark.feature("N19")
@pytest.mark.parametrize(("nozzle", "node", "fp", "device", "unit", "price"), UNITS)
async def test_underfill_returns_the_rest(
    harness: Harness, nozzle: int, node: int, fp: int, device: int, unit: Unit, price: int
) -> None:
    request, handle = await harness.start_authorised(nozzle=nozzle, price_fen_per_unit=price)
    command = harness.stations.authorised[request.order_no]
    assert (command.node, command.fp, command.nozzle, command.amount_fen) == (node, fp, device, 20_000)
    amount = price * 20
    sale = harness.sale(
        order_no=request.order_no,
        node=node,
        fp=fp,
        nozzle=device,
        unit=unit,
        price_fen_per_unit=price,
        amount_fen=amount,
    )
    await harness.complete(handle, sale)
    result = await handle.result()
    assert (result.status, result.charge_fen) == ("completed", amount)
    assert result.refunded_fen == 20_000 - amount
    assert harness.channel.net_of(request.order_no) == amount
    harness.assert_money_closed(request.order_no)
    row = harness.order(request.order_no)
    assert (row["unit"], row["quantity_milli"]) == (unit, 20_000)


async def test_full_fill_needs_no_refund(harness: Harness) -> None:
    request, handle = await harness.start_authorised(amount_fen=14_700)
    await harness.complete(
        handle, harness.sale(order_no=request.order_no, end_reason=EndReason.PRESET_REACHED)
    )
    assert (await handle.result()).status == "completed"
    assert harness.channel.count("refund") == 0
    harness.assert_money_closed(request.order_no)


async def test_price_changed_between_quote_and_start(harness: Harness) -> None:
    request = harness.start_request(price_fen_per_unit=700)
    answer, handle = await harness.start(request)
    assert (answer.outcome, answer.price_fen_per_unit) == (StartOutcome.PRICE_CHANGED, 735)
    assert (await handle.result()).start == answer
    assert harness.rows("SELECT 1 FROM fuel_order WHERE order_no = :no", no=request.order_no) == []
    assert harness.channel.trades == {}


async def test_nozzle_taken(harness: Harness) -> None:
    second = harness.start_request()
    await harness.start(harness.start_request())
    again = second.order_no
    answer, handle = await harness.start(second)
    assert answer.outcome is StartOutcome.NOZZLE_TAKEN
    assert (await handle.result()).status is None
    assert harness.rows("SELECT 1 FROM fuel_order WHERE order_no = :no", no=again) == []


async def test_station_offline_before_the_fill_takes_no_money(harness: Harness) -> None:
    request = harness.start_request()
    harness.station_seen(harness.clock() - timedelta(minutes=5))
    answer, _ = await harness.start(request)
    assert answer.outcome is StartOutcome.STATION_STALE
    assert harness.channel.trades == {}


@pytest.mark.parametrize("amount", [0, 99, 500_001])
async def test_senseless_amount(harness: Harness, amount: int) -> None:
    answer, _ = await harness.start(harness.start_request(amount_fen=amount))
    assert answer.outcome is StartOutcome.AMOUNT_INVALID


async def test_same_tap_twice_meets_the_same_order(harness: Harness) -> None:
    request = harness.start_request()
    first, _ = await harness.start(request)
    second, _ = await harness.start(request)
    assert first == second
    assert harness.channel.count("create") == 1


async def test_create_answer_lost_is_sent_again_with_the_same_bytes(harness: Harness) -> None:
    harness.channel.script["create"] = ["lost"]
    request = harness.start_request()
    answer, _ = await harness.start(request)
    assert answer.outcome is StartOutcome.ACCEPTED
    assert harness.channel.count("create") == 2
    assert len(harness.channel.trades) == 1


@pytest.mark.feature("002-4")
async def test_zero_fill_returns_everything(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    zero = harness.sale(order_no=request.order_no, quantity_milli=0, amount_fen=0, end_reason=EndReason.ZERO)
    await harness.complete(handle, zero)
    result = await handle.result()
    assert (result.status, result.refunded_fen) == ("refunded", 20_000)
    assert harness.channel.net_of(request.order_no) == 0
    harness.assert_money_closed(request.order_no)


@pytest.mark.feature("002-4")
async def test_overfill_is_never_taken_by_itself(harness: Harness) -> None:
    request, handle = await harness.start_authorised(amount_fen=14_000)
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="shortfall")
    assert harness.balance("1090", request.order_no) == 700
    answer = await harness.resolve(handle, ResolveAction.WRITE_OFF)
    assert answer.ok
    assert (await handle.result()).status == "completed"
    assert harness.balance("5060", request.order_no) == 700
    harness.assert_money_closed(request.order_no)


async def test_overfill_collected_at_the_counter(harness: Harness) -> None:
    request, handle = await harness.start_authorised(amount_fen=14_000)
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="shortfall")
    assert (await harness.resolve(handle, ResolveAction.COLLECT_CASH)).ok
    assert (await handle.result()).status == "completed"
    assert harness.balance("1010.cash", request.order_no) == 700


async def test_duplicate_completion_counts_once(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    sale = harness.sale(order_no=request.order_no)
    for _ in range(3):
        await harness.complete(handle, sale)
    assert (await handle.result()).charge_fen == 14_700
    assert len(harness.rows("SELECT 1 FROM sale WHERE order_no = :no", no=request.order_no)) == 1


async def test_completion_overtakes_the_authorise_answer(harness: Harness) -> None:
    harness.stations.silent = True
    request, handle = await harness.start_paid()
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(request.order_no)


async def test_refused_authorise_returns_everything(harness: Harness) -> None:
    harness.stations.authorise_answer = (CommandState.REFUSED, "PRICE_MISMATCH")
    request, handle = await harness.start_paid()
    assert (await handle.result()).status == "refunded"
    assert "油机单价" in harness.order(request.order_no)["end_reason"]
    harness.assert_money_closed(request.order_no)


async def test_dispenser_silent_after_payment_keeps_the_hold_until_it_answers(harness: Harness) -> None:
    harness.stations.silent = True
    request, handle = await harness.start_paid()
    row = await harness.until(request.order_no, "paid", needs="dispenser_unanswered")
    assert row["refunded_fen"] == 0
    held = harness.rows(
        "SELECT 1 FROM fuelling_point WHERE holder_order_no = :no AND held_until IS NULL", no=request.order_no
    )
    assert held
    late = CommandResult(
        command_id=ids.authorise_command_id(request.order_no),
        order_no=request.order_no,
        state=CommandState.ACCEPTED,
    )
    await handle.signal(FillAndPay.command_reported, late)
    await harness.until(request.order_no, "authorised", needs="")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    assert (await handle.result()).status == "completed"


async def test_fill_reported_after_a_long_silence(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    sale = harness.sale(order_no=request.order_no, offline=True, end_reason=EndReason.RECOVERED)
    await harness.complete(handle, sale)
    assert (await handle.result()).charge_fen == 14_700


@pytest.mark.feature("003-K1")
async def test_wrong_device_amount_is_not_charged_by_itself(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no, amount_fen=16_000))
    row = await harness.until(request.order_no, "authorised", needs="amount_mismatch")
    assert row["charge_fen"] == 0
    answer = await harness.resolve(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)
    assert answer.ok
    result = await handle.result()
    assert (result.charge_fen, result.refunded_fen) == (14_700, 5_300)
    sale = harness.row("SELECT * FROM sale WHERE order_no = :no", no=request.order_no)
    assert (sale["amount_fen"], sale["platform_fen"]) == (16_000, 14_700)
    harness.assert_money_closed(request.order_no)


@pytest.mark.feature("003-K1")
async def test_legal_rounding_of_the_meter_stands(harness: Harness) -> None:
    request, handle = await harness.start_authorised(amount_fen=5_000)
    sale = harness.sale(order_no=request.order_no, quantity_milli=6_800, amount_fen=5_000)
    await harness.complete(handle, sale)
    assert (await handle.result()).charge_fen == 5_000
    row = harness.row("SELECT * FROM sale WHERE order_no = :no", no=request.order_no)
    assert (row["platform_fen"], row["flag"]) == (4_998, "amount_case")


@pytest.mark.feature("001-4")
async def test_exactly_one_receipt_and_one_message(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    sale = harness.sale(order_no=request.order_no)
    await harness.complete(handle, sale)
    await harness.complete(handle, sale)
    await handle.result()
    no = request.order_no
    assert len(harness.rows("SELECT 1 FROM receipt WHERE order_no = :no", no=no)) == 1
    message = harness.row("SELECT body FROM outbox WHERE order_no = :no", no=no)["body"]
    assert '"nozzle_no": 1' in message
    assert '"amount_yuan": "147.00"' in message
    assert '"quantity": "20.00"' in message


async def test_refund_answer_lost_uses_the_same_number(harness: Harness) -> None:
    harness.channel.script["refund"] = ["lost"]
    request, handle = await harness.start_authorised()
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    number = ids.out_refund_no(ids.out_trade_no(request.order_no, 1), "rest")
    await harness.until(request.order_no, "dispensed")
    report = PaymentReported(out_trade_no=ids.out_trade_no(request.order_no, 1), out_refund_no=number)
    await handle.signal(FillAndPay.payment_reported, report)
    assert (await handle.result()).refunded_fen == 5_300
    assert harness.channel.count("refund") == 1
    harness.assert_money_closed(request.order_no)


async def test_cash_prepayment_is_handed_back_by_a_person(harness: Harness) -> None:
    request = harness.start_request(method=PayMethod.CASH, driver_id=None)
    _, handle = await harness.start(request)
    await harness.until(request.order_no, "authorised")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.until(request.order_no, "dispensed", needs="return_cash")
    assert (await harness.resolve(handle, ResolveAction.CASH_RETURNED)).ok
    assert (await handle.result()).status == "completed"
    assert harness.balance("1010.cash", request.order_no) == 14_700


async def test_cancel_before_fuel_returns_everything(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    answer = await harness.cancel(handle)
    assert answer.ok, answer
    assert (await handle.result()).status == "refunded"
    harness.assert_money_closed(request.order_no)


async def test_cancel_is_refused_once_fuel_flows(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    harness.stations.stop_answer = (CommandState.REFUSED, "FUELLING")
    answer = await harness.cancel(handle)
    assert (answer.ok, answer.code) == (False, "FUELLING")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    assert (await handle.result()).status == "completed"


async def test_cancel_before_payment_closes_at_the_channel(harness: Harness) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    assert (await harness.cancel(handle)).ok
    assert (await handle.result()).status == "cancelled"
    assert harness.channel.trades[ids.out_trade_no(request.order_no, 1)].state == "CLOSED"


async def test_cancel_while_paying_is_never_both(harness: Harness) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    harness.channel.pay_on_close.add(ids.out_trade_no(request.order_no, 1))
    answer = await harness.cancel(handle)
    assert answer.ok
    assert (await handle.result()).status == "refunded"
    assert harness.channel.net_of(request.order_no) == 0
    assert harness.stations.authorised == {}
    harness.assert_money_closed(request.order_no)


async def test_fuel_after_a_refund_gets_an_order_of_its_own(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    harness.channel.script["refund"] = ["lost"]
    await harness.cancel(handle)
    late = harness.sale(order_no=request.order_no)
    await harness.complete(handle, late)
    number = ids.out_refund_no(ids.out_trade_no(request.order_no, 1), "all")
    report = PaymentReported(out_trade_no=ids.out_trade_no(request.order_no, 1), out_refund_no=number)
    await handle.signal(FillAndPay.payment_reported, report)
    assert (await handle.result()).status == "refunded"
    own = ids.order_no_of_sale(late.natural_key)
    row = await harness.until(own, "unpaid", needs="unexpected")
    assert row["charge_fen"] == 0


async def test_amount_that_is_not_ours_is_quarantined(harness: Harness) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    number = ids.out_trade_no(request.order_no, 1)
    harness.channel.trades[number].amount_fen = 1
    await harness.pay_and_report(handle, request.order_no)
    row = await harness.until(request.order_no, "awaiting_payment", needs="payment_amount_mismatch")
    assert (row["paid_fen"], row["surplus_fen"]) == (0, 1)
    assert harness.stations.authorised == {}


async def test_sale_before_the_authorise_is_settled_without_a_release(harness: Harness) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    await harness.pay_and_report(handle, request.order_no)
    assert (await handle.result()).status == "completed"
    assert harness.stations.sends == 0
    harness.assert_money_closed(request.order_no)


async def test_sale_told_again_after_its_order_ended_opens_no_second_order(harness: Harness) -> None:
    request, handle = await harness.start_authorised()
    sale = harness.sale(order_no=request.order_no)
    await harness.complete(handle, sale)
    await handle.result()
    again = await harness.start_sale(sale)
    assert (await again.result()).status is None
    own = ids.order_no_of_sale(sale.natural_key)
    assert harness.rows("SELECT 1 FROM fuel_order WHERE order_no = :no", no=own) == []


async def test_no_payer_in_clear_in_the_database(harness: Harness) -> None:
    request = harness.start_request()
    await harness.start(request)
    attempt = harness.row("SELECT * FROM payment_attempt WHERE order_no = :no", no=request.order_no)
    assert harness.channel.calls[-1] == ("create", attempt["out_trade_no"])
    assert OPENID not in str(attempt)
    driver = harness.row("SELECT * FROM driver WHERE id = :id", id=harness.driver_id)
    assert OPENID not in str(driver)
