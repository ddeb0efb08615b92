"""A worker that dies after any step: the next one goes on, money and fuel move once (N1), late money too (N17)."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from activities import options
from contracts.fill import StartOutcome
from domain import ids, policy
from domain.payment import PayMethod
from domain.quantity import Unit
from tests.workflows.crashes import crash_once
from tests.workflows.harness import Harness, running
from tests.workflows.test_deadlines import reach

_PRICES = {1: 735, 3: 735, 5: 705, 6: 705, 7: 498, 8: 620, 9: 150}
"""One nozzle of every fuelling point with its price in fen: so many runs go on at once."""
_UNITS = {7: Unit.CUBIC_METRE, 8: Unit.KILOGRAM, 9: Unit.KILOWATT_HOUR}
"""What a nozzle measures in, when it is not litres."""
_MOST_STEPS = 60
Path = Callable[[Harness, int], Awaitable[None]]


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Miss a channel call that a dead worker took along after three seconds instead of fifteen."""
    monkeypatch.setitem(options.CHANNEL_MOVE, "start_to_close_timeout", timedelta(seconds=3))


async def prepaid(harness: Harness, nozzle: int) -> None:
    """A prepaid fill with a rest, from the tap to the refund."""
    price = _PRICES[nozzle]
    request = harness.start_request(
        nozzle=nozzle, price_fen_per_unit=price, driver_id=harness.another_driver()
    )
    answer, handle = await harness.start(request)
    assert answer.outcome is StartOutcome.ACCEPTED
    await harness.pay_and_report(handle, request.order_no)
    await harness.until(request.order_no, "authorised")
    command = harness.stations.authorised[request.order_no]
    sale = harness.sale(
        order_no=request.order_no,
        node=command.node,
        fp=command.fp,
        unit=_UNITS.get(nozzle, Unit.LITRE),
        price_fen_per_unit=price,
        amount_fen=price * 20,
    )
    await harness.complete(handle, sale)
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(request.order_no)
    assert harness.channel.net_of(request.order_no) == price * 20
    counts = harness.row(
        "SELECT (SELECT count(*) FROM refund WHERE order_no = :no AND status = 'succeeded') AS refunds,"
        " (SELECT count(*) FROM receipt WHERE order_no = :no) AS receipts,"
        " (SELECT count(*) FROM payment_attempt WHERE order_no = :no AND status = 'succeeded') AS captures",
        no=request.order_no,
    )
    assert counts == {"refunds": 1, "receipts": 1, "captures": 1}


async def postpaid(harness: Harness, _: int) -> None:
    """A post-paid sale that two screens want to pay."""
    sale = harness.sale()
    handle = await harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await harness.until(order_no, "unpaid")
    await harness.pay(handle, PayMethod.WECHAT_JSAPI)
    await harness.pay(handle, PayMethod.WECHAT_NATIVE, screen="pillar")
    await harness.pay_and_report(handle, order_no, attempt=2)
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(order_no)
    assert harness.channel.net_of(order_no) == 14_700
    assert harness.channel.trades[ids.out_trade_no(order_no, 1)].state == "CLOSED"


@pytest.mark.timeout(60)
@pytest.mark.feature("N1")
@pytest.mark.parametrize("path", [prepaid, postpaid])
async def test_worker_dies_after_every_step(temporal_client: Client, database_url: str, path: Path) -> None:
    async with running(temporal_client, database_url, fill_worker=False) as shared:
        points = 0
        for first in range(1, _MOST_STEPS, len(_PRICES)):
            found = await asyncio.gather(
                *(_crash(shared, path, first + i, nozzle) for i, nozzle in enumerate(_PRICES))
            )
            points += sum(found)
            if not all(found):
                break
        else:
            raise AssertionError("the path has more steps than this test looks at")
        print(f"{path.__name__}: {points} crash points, 0 violations")
        assert points >= 8


async def _crash(shared: Harness, path: Path, step: int, nozzle: int) -> bool:
    harness = shared.on_own_queue()
    return (await crash_once(harness, step, lambda: path(harness, nozzle))).happened


async def late_money(env: WorkflowEnvironment, harness: Harness, *, taken: bool) -> None:
    """Money after the hold has run out: the free nozzle is filled, a taken one means all of it goes back."""
    request = harness.start_request()
    _, handle = await harness.start(request)
    harness.clock.offset += policy.NOZZLE_HOLD + timedelta(seconds=30)
    await env.sleep(policy.NOZZLE_HOLD + timedelta(seconds=30))
    if taken:
        await harness.start(harness.start_request())
    await harness.pay_and_report(handle, request.order_no)
    if not taken:
        await harness.until(request.order_no, "authorised")
        await harness.complete(handle, harness.sale(order_no=request.order_no))
    assert (await handle.result()).status == ("refunded" if taken else "completed")
    assert (request.order_no in harness.stations.authorised) is not taken
    assert harness.channel.net_of(request.order_no) == (0 if taken else 14_700)
    harness.assert_money_closed(request.order_no)


async def money_while_closing(env: WorkflowEnvironment, harness: Harness) -> None:
    """Money in the very moment in which the channel is asked to close: it is honoured."""
    request = harness.start_request()
    _, handle = await harness.start(request)
    harness.channel.pay_on_close.add(ids.out_trade_no(request.order_no, 1))
    await reach(env, harness, request.order_no, "authorised")
    await harness.complete(handle, harness.sale(order_no=request.order_no))
    assert (await handle.result()).status == "completed"
    harness.assert_money_closed(request.order_no)


@pytest.mark.feature("N17")
@pytest.mark.parametrize("branch", ["free", "taken", "closing"])
@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(240)])])
async def test_late_money_and_a_dying_worker(
    time_skipping_env: WorkflowEnvironment, database_url: str, branch: str, stride: int
) -> None:
    async with running(time_skipping_env.client, database_url, fill_worker=False) as shared:
        points = 0
        for step in range(1, _MOST_STEPS, stride):
            shared.fresh()
            harness = shared.on_own_queue()

            async def scenario(one: Harness = harness) -> None:
                if branch == "closing":
                    await money_while_closing(time_skipping_env, one)
                else:
                    await late_money(time_skipping_env, one, taken=branch == "taken")

            crashed = await crash_once(harness, step, scenario, cached=False)
            await harness.end_all()
            if not crashed.happened:
                break
            points += 1
        print(f"late money, {branch}: {points} crash points, 0 violations")
        assert points >= 4
