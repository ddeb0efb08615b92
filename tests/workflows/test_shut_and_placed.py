"""Placing an attempt beside a command that ends it: no trade may open that nobody watches."""

import asyncio
import time
from datetime import timedelta

import pytest

from contracts.fill import StartFill, StartOutcome
from contracts.payment import AttemptRef, PaymentOutcome
from domain import ids, policy
from tests.workflows.harness import Handle, Harness
from workflows.fill_and_pay import FillAndPay

_CALL_S = 6


def handle_of(harness: Harness, request: StartFill) -> Handle:
    """Return the run of a start that has not been answered yet."""
    handle: Handle = harness.client.get_workflow_handle_for(
        FillAndPay.run, ids.fill_workflow_id(request.order_no)
    )
    return handle


def placing_slowly(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the channel's call take a while before the trade opens there."""
    place = harness.channel.create

    def create(ref: AttemptRef) -> PaymentOutcome:
        time.sleep(_CALL_S)
        return place(ref)

    monkeypatch.setattr(harness.channel, "create", create)


async def test_an_attempt_that_a_cancel_shut_is_not_placed_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "NOT_FOUND_GRACE", timedelta(0))
    harness.channel.script["create"] = ["lost_before"]
    request = harness.start_request()
    starting = asyncio.create_task(harness.start(request))
    await harness.until(request.order_no, "awaiting_payment")
    await asyncio.sleep(0.3)
    assert (await harness.cancel(handle_of(harness, request))).ok
    answer, handle = await starting
    result = await handle.result()
    assert (answer.outcome, result.status) == (StartOutcome.PAYMENT_UNAVAILABLE, "cancelled")
    assert harness.channel.count("create") == 1
    assert harness.channel.trades == {}


async def test_a_cancel_waits_for_the_placing_and_closes_what_it_opened(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "NOT_FOUND_GRACE", timedelta(0))
    monkeypatch.setattr(harness, "task_timeout", timedelta(seconds=2))
    placing_slowly(harness, monkeypatch)
    request = harness.start_request()
    starting = asyncio.create_task(harness.start(request))
    await harness.until(request.order_no, "awaiting_payment")
    assert (await harness.cancel(handle_of(harness, request))).ok
    _, handle = await starting
    assert (await handle.result()).status == "cancelled"
    assert harness.channel.trades[ids.out_trade_no(request.order_no, 1)].state == "CLOSED"
