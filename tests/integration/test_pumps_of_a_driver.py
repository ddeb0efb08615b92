"""A driver holds few pumps at once without having paid: holding a pump costs nothing and keeps others away."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from activities.order_steps import OrderStepActivities
from contracts.fill import StartFill, StartOutcome
from contracts.orders import EndOrder, OpenOrder, PostPayment
from domain import ids, policy
from domain.order import OrderStatus
from domain.payment import PayMethod
from tests.integration.activity_world import NOW, World, open_world, paid

_OK, _ENOUGH = StartOutcome.ACCEPTED, StartOutcome.TOO_MANY_UNPAID
_PRICES = {1: 735, 3: 735, 5: 705, 6: 705, 7: 498, 8: 620, 9: 150}
"""A nozzle of every fuelling point, and its price in fen."""


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[World]:
    """A seeded database of this test."""
    with open_world(fresh_database_url) as found:
        yield found


def starts(world: World) -> list[StartFill]:
    """One start of the same driver at every fuelling point."""
    return [
        replace(world.start(f"k{nozzle}", nozzle=nozzle), price_fen_per_unit=price)
        for nozzle, price in _PRICES.items()
    ]


def outcome(world: World, start: StartFill) -> StartOutcome:
    """Start; return how that ended."""
    return world.opening.open_order(OpenOrder(start=start)).answer.outcome


def test_one_driver_cannot_hold_every_pump(world: World) -> None:
    found = [outcome(world, start) for start in starts(world)]
    assert found == [_OK] * policy.MOST_UNPAID_OF_A_DRIVER + [_ENOUGH] * 5
    assert world.count("fuelling_point", "holder_order_no IS NOT NULL") == policy.MOST_UNPAID_OF_A_DRIVER


def test_starts_of_one_driver_at_one_moment_do_not_overlook_each_other(world: World) -> None:
    with ThreadPoolExecutor(len(_PRICES)) as pool:
        found = list(pool.map(lambda start: outcome(world, start), starts(world)))
    assert sorted(found) == sorted([_OK] * policy.MOST_UNPAID_OF_A_DRIVER + [_ENOUGH] * 5)


def pays(world: World, start: StartFill) -> None:
    """The driver pays."""
    outcome = paid(ids.out_trade_no(start.order_no, 1), 20_000)
    world.money.post_payment(PostPayment(order_no=start.order_no, outcome=outcome))


def cancels(world: World, start: StartFill) -> None:
    """The driver cancels."""
    steps = OrderStepActivities(world.uow, lambda: NOW)
    steps.end_order(
        EndOrder(order_no=start.order_no, status=OrderStatus.CANCELLED, actor="driver:1", reason="改主意")
    )


@pytest.mark.parametrize("ends", [pays, cancels])
def test_who_paid_or_cancelled_may_start_again(
    world: World, ends: Callable[[World, StartFill], None]
) -> None:
    first, second, third, *_ = starts(world)
    assert [outcome(world, one) for one in (first, second, third)] == [_OK, _OK, _ENOUGH]
    ends(world, first)
    assert outcome(world, third) is _OK


def test_a_repeated_start_meets_its_own_order_at_the_limit(world: World) -> None:
    first, second, *_ = starts(world)
    assert [outcome(world, one) for one in (first, second, first, second)] == [_OK] * 4


def test_another_driver_and_the_counter_are_not_counted(world: World) -> None:
    mine, other = starts(world), world.add_driver("o_other")
    assert [outcome(world, one) for one in mine[:3]] == [_OK, _OK, _ENOUGH]
    assert outcome(world, replace(mine[2], driver_id=other)) is _OK
    desk = [replace(one, driver_id=None, method=PayMethod.CASH) for one in mine[3:]]
    assert [outcome(world, one) for one in desk] == [_OK] * 4
