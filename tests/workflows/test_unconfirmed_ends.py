"""A close or a reversal that the channel does not confirm: the query says what became of the attempt, and is asked."""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from contracts.payment import AttemptRef, CloseOutcome, PaymentOutcome
from domain import ids, policy
from domain.payment import CloseKind, OutcomeKind, PayMethod
from tests.workflows.harness import Handle, Harness

ASKS_THE_CUSTOMER = "134567890123450010"
HAS_NO_MONEY = "134567890123450001"
ANSWER_LOST = "134567890123450022"
GARBLED = PaymentOutcome(kind=OutcomeKind.UNKNOWN, out_trade_no="", code="MALFORMED")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become tenths of them."""
    monkeypatch.setattr(policy, "CODE_QUERY_INTERVAL", timedelta(milliseconds=200))
    monkeypatch.setattr(policy, "CODE_QUERY_LIMIT", timedelta(seconds=1))
    monkeypatch.setattr(policy, "CODE_REVERSE_NOT_BEFORE", timedelta(milliseconds=300))
    monkeypatch.setattr(policy, "PAYMENT_QUERY_LADDER", (timedelta(milliseconds=300),) * 4)


def reverses_never(harness: Harness, kind: CloseKind) -> None:
    """Let every reversal end like this; nothing happens to the trade."""
    harness.channel.script["reverse"] = [CloseOutcome(kind=kind, out_trade_no="", code="NO_AUTH")] * 1_000


async def unpaid_sale(harness: Harness) -> tuple[str, Handle]:
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    return order_no, handle


async def sale_with_code(harness: Harness) -> tuple[str, Handle]:
    """A sale with a pay code that the customer has to confirm."""
    order_no, handle = await unpaid_sale(harness)
    await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code=ASKS_THE_CUSTOMER)
    return order_no, handle


async def unconfirmed_code(harness: Harness) -> tuple[str, Handle]:
    """A sale with a pay code that nobody confirms, nor its reversal."""
    order_no, handle = await sale_with_code(harness)
    await harness.until(order_no, "unpaid", needs="code_reverse_unconfirmed")
    assert (await harness.cash(handle, 14_700)).code == "CHANNEL_UNCERTAIN"
    return order_no, handle


@pytest.mark.feature("000-3")
@pytest.mark.parametrize("kind", [CloseKind.REFUSED, CloseKind.UNKNOWN])
async def test_a_code_that_the_channel_revoked_by_itself_frees_the_counter(
    harness: Harness, kind: CloseKind
) -> None:
    reverses_never(harness, kind)
    order_no, handle = await unconfirmed_code(harness)
    harness.channel.trades[ids.out_trade_no(order_no, 1)].state = "REVOKED"
    await harness.until(order_no, "unpaid", needs="")
    assert (await harness.cash(handle, 14_700)).ok
    await handle.result()
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_money_of_a_code_that_may_not_be_reversed_pays_the_sale(harness: Harness) -> None:
    reverses_never(harness, CloseKind.REFUSED)
    order_no, handle = await unconfirmed_code(harness)
    harness.channel.customer_pays(ids.out_trade_no(order_no, 1))
    await harness.until(order_no, "completed", needs="")
    await handle.result()
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_success_is_not_believed_while_a_reversal_may_pay_it_back(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    reverses_never(harness, CloseKind.UNKNOWN)
    order_no, handle = await unconfirmed_code(harness)
    harness.channel.customer_pays(ids.out_trade_no(order_no, 1))
    assert (await harness.cash(handle, 14_700)).code == "CHANNEL_UNCERTAIN"
    assert harness.order(order_no)["paid_fen"] == 0
    monkeypatch.setattr(policy, "CODE_REVERSE_LIMIT", timedelta(0))
    await harness.until(order_no, "completed", needs="")
    await handle.result()
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_a_code_paid_too_late_releases_no_pump(harness: Harness) -> None:
    reverses_never(harness, CloseKind.REFUSED)
    request = harness.start_request()
    _, handle = await harness.start(request)
    await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code=ASKS_THE_CUSTOMER)
    await harness.until(request.order_no, "awaiting_payment", needs="code_reverse_unconfirmed")
    harness.channel.customer_pays(ids.out_trade_no(request.order_no, 2))
    assert (await handle.result()).status == "refunded"
    assert not harness.stations.authorised
    assert harness.channel.net_of(request.order_no) == 0
    harness.assert_money_closed(request.order_no)


@pytest.mark.feature("000-3")
async def test_a_refused_code_that_captured_and_may_not_be_reversed_is_found(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    reverses_never(harness, CloseKind.REFUSED)
    order_no, handle = await unpaid_sale(harness)
    monkeypatch.setattr(policy, "CODE_REVERSE_NOT_BEFORE", timedelta(seconds=1))
    await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code=HAS_NO_MONEY)
    harness.channel.trades[ids.out_trade_no(order_no, 1)].state = "SUCCESS"
    await handle.result()
    assert harness.order(order_no)["status"] == "completed"
    harness.assert_money_closed(order_no)


@pytest.mark.feature("N17")
async def test_money_behind_an_unconfirmed_close_is_found(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "PAYMENT_WINDOW", timedelta(seconds=1))
    monkeypatch.setattr(policy, "PAYMENT_QUERY_LADDER", (timedelta(minutes=5),))
    unconfirmed = CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no="", code="SYSTEM_ERROR")
    harness.channel.script["close"] = [unconfirmed] * 100
    request = harness.start_request()
    await harness.start(request)
    harness.channel.customer_pays(ids.out_trade_no(request.order_no, 1))
    await harness.until(request.order_no, "authorised")
    assert harness.order(request.order_no)["paid_fen"] == 20_000


@pytest.mark.feature("N17")
async def test_a_report_about_a_failed_attempt_is_followed_until_the_channel_answers(
    harness: Harness,
) -> None:
    order_no, handle = await unpaid_sale(harness)
    refused = PaymentOutcome(kind=OutcomeKind.FAILED, out_trade_no="", code="TRADE_ERROR", signed=True)
    harness.channel.script["create"] = [refused]
    await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    number = ids.out_trade_no(order_no, 1)
    harness.channel.customer_pays(number)
    away = PaymentOutcome(kind=OutcomeKind.UNKNOWN, out_trade_no="", code="TIMEOUT")
    harness.channel.script["query"] = [away, away, away]
    await asyncio.gather(*(harness.report(handle, number) for _ in range(2)))
    await handle.result()
    assert harness.order(order_no)["status"] == "completed"
    harness.assert_money_closed(order_no)


@pytest.mark.feature("N17")
async def test_a_report_that_the_channel_never_confirms_is_told_to_a_person(harness: Harness) -> None:
    order_no, handle = await unpaid_sale(harness)
    refused = PaymentOutcome(kind=OutcomeKind.FAILED, out_trade_no="", code="TRADE_ERROR", signed=True)
    harness.channel.script["create"] = [refused]
    await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    number = ids.out_trade_no(order_no, 1)
    harness.channel.customer_pays(number)
    harness.channel.script["query"] = [GARBLED] * 1_000
    await harness.report(handle, number)
    await harness.until(order_no, "unpaid", needs="payment_unconfirmed")
    assert (await harness.cash(handle, 14_700)).ok
    await harness.until(order_no, "completed", needs="payment_unconfirmed")
    harness.channel.script["query"].clear()
    await handle.result()
    assert not harness.order(order_no)["needs_person"]
    assert harness.order(order_no)["surplus_fen"] == 14_700
    harness.assert_money_closed(order_no)


@pytest.mark.feature("N17")
async def test_a_second_payment_that_is_never_confirmed_is_told_to_a_person(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_no, handle = await unpaid_sale(harness)
    for _ in range(2):
        await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    second = ids.out_trade_no(order_no, 2)
    unconfirmed = CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no="", code="SYSTEM_ERROR")
    harness.channel.script["close"] = [unconfirmed] * 1_000
    query, away = harness.channel.query, {second}
    answer = lambda ref: GARBLED if ref.out_trade_no in away else query(ref)  # noqa: E731
    monkeypatch.setattr(harness.channel, "query", answer)
    await harness.pay_and_report(handle, order_no, 1)
    await harness.pay_and_report(handle, order_no, 2)
    await harness.until(order_no, "completed", needs="payment_unconfirmed")
    away.clear()
    await handle.result()
    assert not harness.order(order_no)["needs_person"]
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_money_that_a_confirmed_reversal_paid_back_is_not_posted(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query may show a success for a while after its reversal, and a look waits for that reversal."""
    order_no, handle = await sale_with_code(harness)
    reverse, query = harness.channel.reverse, harness.channel.query
    stale: list[PaymentOutcome] = []

    def slow_reverse(ref: AttemptRef) -> CloseOutcome:
        harness.channel.customer_pays(ref.out_trade_no)
        stale.append(query(ref))
        time.sleep(1)
        return reverse(ref)

    await asyncio.sleep(0.5)
    monkeypatch.setattr(harness.channel, "reverse", slow_reverse)
    monkeypatch.setattr(harness.channel, "query", lambda ref: stale.pop() if stale else query(ref))
    assert (await harness.cash(handle, 14_700)).ok
    await handle.result()
    assert harness.channel.count("reverse") == 1
    assert harness.order(order_no)["surplus_fen"] == 0
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_a_report_about_a_reversed_code_posts_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = harness.start_request()
    _, handle = await harness.start(request)
    await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code=ASKS_THE_CUSTOMER)
    number = ids.out_trade_no(request.order_no, 2)
    await asyncio.sleep(3)
    assert harness.channel.trades[number].state == "REVOKED"
    query, stale = (
        harness.channel.query,
        replace(GARBLED, kind=OutcomeKind.SUCCEEDED, out_trade_no=number, amount_fen=20_000),
    )
    monkeypatch.setattr(
        harness.channel, "query", lambda ref: stale if ref.out_trade_no == number else query(ref)
    )
    await harness.report(handle, number)
    await asyncio.sleep(1)
    assert harness.order(request.order_no)["paid_fen"] == 0
    assert not harness.stations.authorised


@pytest.mark.feature("000-3")
async def test_a_code_too_young_to_be_reversed_keeps_its_payment(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WeChat refuses its reversal; the customer who then confirms has paid."""
    monkeypatch.setattr(policy, "CODE_REVERSE_NOT_BEFORE", timedelta(seconds=15))
    monkeypatch.setattr(policy, "CODE_QUERY_LIMIT", timedelta(seconds=45))
    too_young = CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no="", code="INVALID_REQUEST")
    harness.channel.script["reverse"] = [too_young]
    order_no, handle = await sale_with_code(harness)
    assert (await harness.cash(handle, 14_700)).code == "CHANNEL_UNCERTAIN"
    harness.channel.customer_pays(ids.out_trade_no(order_no, 1))
    await handle.result()
    assert harness.channel.count("reverse") == 0
    assert harness.order(order_no)["status"] == "completed"
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_a_code_that_was_charged_late_is_not_gone_before_the_channel_knows_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "NOT_FOUND_GRACE", timedelta(seconds=2))
    monkeypatch.setattr(policy, "CODE_REVERSE_NOT_BEFORE", timedelta(seconds=15))
    order_no, handle = await unpaid_sale(harness)
    charge, known, hidden = harness.channel.charge_code, harness.channel.trades, {}

    def slow_charge(ref: AttemptRef) -> PaymentOutcome:
        time.sleep(2.5)
        outcome = charge(ref)
        hidden[ref.out_trade_no] = known.pop(ref.out_trade_no)
        return outcome

    monkeypatch.setattr(harness.channel, "charge_code", slow_charge)
    missing = CloseOutcome(kind=CloseKind.NOT_FOUND, out_trade_no="")
    harness.channel.script["reverse"] = [missing] * 2
    await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code=ANSWER_LOST)
    await asyncio.sleep(1)
    known.update(hidden)
    await harness.until(order_no, "completed")
    await handle.result()
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_no_look_believes_a_success_that_a_reversal_may_pay_back(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "CODE_QUERY_LIMIT", timedelta(seconds=8))
    monkeypatch.setattr(policy, "CODE_QUERY_INTERVAL", timedelta(seconds=2))
    reverses_never(harness, CloseKind.UNKNOWN)
    order_no, handle = await sale_with_code(harness)
    number = ids.out_trade_no(order_no, 1)
    await asyncio.sleep(0.5)
    assert (await harness.cash(handle, 14_700)).code == "CHANNEL_UNCERTAIN"
    harness.channel.customer_pays(number)
    await harness.report(handle, number)
    await asyncio.sleep(3)
    assert harness.channel.count("query") >= 2
    assert harness.order(order_no)["paid_fen"] == 0
    harness.channel.trades[number].state = "REVOKED"
    await harness.until(order_no, "unpaid", needs="")
    await asyncio.sleep(2)
    assert (await harness.cash(handle, 14_700)).ok
    await handle.result()
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
@pytest.mark.parametrize("kind", [CloseKind.UNKNOWN, CloseKind.REFUSED])
async def test_a_refused_code_is_followed_until_it_cannot_capture_any_more(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, kind: CloseKind
) -> None:
    monkeypatch.setattr(policy, "CODE_REVERSE_NOT_BEFORE", timedelta(seconds=1))
    order_no, handle = await unpaid_sale(harness)
    reverses_never(harness, kind)
    await harness.pay(handle, PayMethod.WECHAT_CODE, screen="pos", auth_code=HAS_NO_MONEY)
    number = ids.out_trade_no(order_no, 1)
    harness.channel.trades[number].state = "USERPAYING"
    assert (await harness.cash(handle, 14_700)).ok
    await harness.until(order_no, "completed", needs="code_reverse_unconfirmed")
    harness.channel.script["reverse"].clear()
    await handle.result()
    assert harness.channel.trades[number].state == "REVOKED"
    assert not harness.order(order_no)["needs_person"]
    harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_a_code_that_the_channel_does_not_know_frees_the_counter(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "NOT_FOUND_GRACE", timedelta(milliseconds=500))
    reverses_never(harness, CloseKind.REFUSED)
    order_no, handle = await sale_with_code(harness)
    del harness.channel.trades[ids.out_trade_no(order_no, 1)]
    await asyncio.sleep(3)
    assert (await harness.cash(handle, 14_700)).ok
    await handle.result()
    harness.assert_money_closed(order_no)
