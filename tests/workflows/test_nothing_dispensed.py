"""A manager says that nothing was dispensed: the release is withdrawn, now or as soon as the station answers."""

import asyncio
from datetime import timedelta

import pytest

from contracts.fill import ResolveAction, StartFill
from contracts.station import AuthoriseCommand, CommandResult, CommandState, StopCommand
from domain import policy
from domain.payment import PayMethod
from tests.workflows.harness import Handle, Harness

NOTHING = ResolveAction.NOTHING_DISPENSED


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release is too old after a second, and a silent station is told again every second."""
    monkeypatch.setattr(policy, "AUTHORISE_EXPIRY", timedelta(seconds=1))
    monkeypatch.setattr(policy, "WITHDRAW_LADDER", (timedelta(seconds=1),))


async def silent_order(harness: Harness) -> tuple[StartFill, Handle]:
    """A paid order whose dispenser does not answer, so that a manager decides."""
    harness.stations.silent = True
    request, handle = await harness.start_paid()
    await harness.until(request.order_no, "paid", needs="dispenser_unanswered")
    return request, handle


def stops(harness: Harness) -> list[CommandState]:
    """Return how the station answered stop commands."""
    return [one.state for name, one in harness.stations.results.items() if name.startswith("stop")]


async def test_nothing_dispensed_is_refused_while_fuel_flows(harness: Harness) -> None:
    request, handle = await silent_order(harness)
    harness.stations.silent = False
    harness.stations.stop_answer = (CommandState.REFUSED, "FUELLING")
    answer = await harness.resolve(handle, NOTHING)
    assert (answer.ok, answer.code) == (False, "FUELLING")
    assert harness.channel.count("refund") == 0
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    assert (await handle.result()).charge_fen == 14_700
    harness.assert_money_closed(request.order_no)


@pytest.mark.parametrize(
    "stop_answer", [(CommandState.ACCEPTED, ""), (CommandState.REFUSED, "NOT_AUTHORISED")]
)
async def test_nothing_dispensed_returns_the_money_after_the_stop(
    harness: Harness, stop_answer: tuple[CommandState, str]
) -> None:
    request, handle = await silent_order(harness)
    harness.stations.silent, harness.stations.stop_answer = False, stop_answer
    assert (await harness.resolve(handle, NOTHING)).ok
    assert stops(harness) == [stop_answer[0]]
    assert (await handle.result()).status == "refunded"
    harness.assert_money_closed(request.order_no)


@pytest.mark.parametrize("code", ["DEVICE_REFUSED", "FP_BUSY"])
async def test_nothing_dispensed_waits_for_a_pump_that_does_not_stop(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(policy, "FILL_ATTENTION_AFTER", timedelta(seconds=1))
    request, handle = await harness.start_authorised()
    await harness.until(request.order_no, "authorised", needs="fill_not_reported")
    harness.stations.stop_answer = (CommandState.REFUSED, code)
    for _ in range(2):
        answer = await harness.resolve(handle, NOTHING)
        assert (answer.ok, answer.code) == (False, "PUMP_NOT_STOPPED")
    assert harness.channel.count("refund") == 0
    assert harness.order(request.order_no)["needs_person"] == "fill_not_reported"
    harness.stations.stop_answer = (CommandState.ACCEPTED, "")
    assert (await harness.resolve(handle, NOTHING)).ok
    assert (await handle.result()).status == "refunded"
    harness.assert_money_closed(request.order_no)


@pytest.mark.parametrize(
    "stop_answer", [(CommandState.REFUSED, "FP_OFFLINE"), (CommandState.EXPIRED, "EXPIRED")]
)
async def test_nothing_dispensed_does_not_wait_for_a_stop_that_reached_no_pump(
    harness: Harness, stop_answer: tuple[CommandState, str]
) -> None:
    request, handle = await silent_order(harness)
    harness.stations.silent, harness.stations.stop_answer = False, stop_answer
    answer = await harness.resolve(handle, NOTHING)
    assert answer.ok
    assert "继续撤销授权" in answer.message
    await harness.until(request.order_no, "refunded")
    harness.stations.stop_answer = (CommandState.ACCEPTED, "")
    await handle.result()
    assert stops(harness)[-1] is CommandState.ACCEPTED


async def test_nothing_dispensed_does_not_wait_for_a_dead_station(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "STOP_PATIENCE", timedelta(seconds=1))
    request, handle = await silent_order(harness)

    async def never(command: AuthoriseCommand | StopCommand) -> CommandResult:
        await asyncio.sleep(60)
        raise AssertionError(command)

    monkeypatch.setattr(harness.stations, "send", never)
    answer = await asyncio.wait_for(harness.resolve(handle, NOTHING), 8)
    assert answer.ok
    assert "继续撤销授权" in answer.message
    await harness.until(request.order_no, "refunded")
    harness.assert_money_closed(request.order_no)


async def test_a_release_is_withdrawn_when_the_silent_station_is_back(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "FILL_ATTENTION_AFTER", timedelta(seconds=1))
    request, handle = await harness.start_authorised()
    await harness.until(request.order_no, "authorised", needs="fill_not_reported")
    harness.stations.silent = True
    assert (await harness.resolve(handle, NOTHING)).ok
    await harness.until(request.order_no, "refunded")
    await asyncio.sleep(1.5)
    assert stops(harness) == []
    harness.stations.silent = False
    assert (await handle.result()).status == "refunded"
    assert stops(harness) == [CommandState.ACCEPTED]


async def test_nothing_dispensed_waits_for_an_authorise_that_is_on_its_way(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "AUTHORISE_EXPIRY", timedelta(seconds=60))
    monkeypatch.setattr(policy, "ANSWER_PATIENCE", timedelta(seconds=1))
    request, handle = await silent_order(harness)
    early = await harness.resolve(handle, NOTHING)
    assert (early.ok, early.code) == (False, "DISPENSER_UNANSWERED")
    assert harness.channel.count("refund") == 0
    assert harness.order(request.order_no)["status"] == "paid"


async def test_nothing_dispensed_is_no_answer_to_another_need(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money of a wrong amount asks for a person while the authorise command is still on its way."""
    arrived, connected = asyncio.Event(), asyncio.Event()
    real = harness.stations.send

    async def send(command: AuthoriseCommand | StopCommand) -> CommandResult:
        arrived.set()
        await connected.wait()
        return await real(command)

    monkeypatch.setattr(harness.stations, "send", send)
    request = harness.start_request()
    _, handle = await harness.start(request)
    wrong = (await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="kiosk")).out_trade_no
    harness.channel.trades[wrong].state, harness.channel.trades[wrong].amount_fen = "SUCCESS", 1
    await harness.report(handle, wrong)
    await harness.until(request.order_no, "awaiting_payment", needs="payment_amount_mismatch")
    await harness.pay_and_report(handle, request.order_no)
    await asyncio.wait_for(arrived.wait(), 10)
    answer = await harness.resolve(handle, NOTHING)
    connected.set()
    assert (answer.ok, answer.code) == (False, "NOT_WAITING")
    await harness.until(request.order_no, "authorised")
    assert harness.channel.count("refund") == 0
