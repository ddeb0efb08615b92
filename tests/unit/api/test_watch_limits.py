"""How many may wait for orders at once: a cap for each caller and one for all, refused openly, never a busy loop."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack

import httpx
import pytest

from api import watch
from api.errors import ProblemError
from api.watch import OrderWatch
from domain.order import OrderStatus
from tests.unit.api.world import World


def _never(_status: str, _version: int) -> bool:
    return False


def _assert_told_to_come_again(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "try_again")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(("role", "at_most"), [("driver", 20), ("cashier", 200)])
async def test_a_caller_has_so_many_waits_and_the_next_is_refused(
    world: World, role: str, at_most: int
) -> None:
    app = world.make_app()
    driver_id = world.add_driver()
    order_no = world.add_order(driver_id=driver_id)
    headers = world.as_driver(driver_id) if role == "driver" else world.as_staff(role)
    subject = f"driver:{driver_id}" if role == "driver" else f"staff:{world.staff_ids['cashier-ST001']}"
    path = f"/v1/orders/{order_no}"
    async with world.client(app) as api:
        version = (await api.get(path, headers=headers)).json()["version"]
        with ExitStack() as held:
            for _ in range(at_most - 1):
                held.enter_context(app.state.services.watch.waiting(order_no, _never, caller=subject))
            last = asyncio.create_task(api.get(f"{path}?wait=2&since={version}", headers=headers))
            await asyncio.sleep(0.3)
            _assert_told_to_come_again(await api.get(f"{path}?wait=2&since={version}", headers=headers))
            _assert_told_to_come_again(await api.get(f"{path}/events", headers=headers))
            assert (await api.get(path, headers=headers)).status_code == 200, "to look needs no place"
            other = await api.get(f"{path}?wait=1&since={version}", headers=world.as_staff("manager"))
            assert other.status_code == 200, "somebody else's places are not used up"
            assert (await last).status_code == 200
        assert (await api.get(f"{path}?wait=1&since={version}", headers=headers)).status_code == 200


async def test_waits_of_everybody_are_bounded_and_who_waits_goes_on_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_WAITERS", 5)
    service: OrderWatch = world.make_app().state.services.watch
    order_no = world.add_order()
    with ExitStack() as held:
        waiters = [
            held.enter_context(service.waiting(order_no, _never, caller=f"driver:{n}", at_most=20))
            for n in range(5)
        ]
        with pytest.raises(ProblemError) as refused, service.waiting(order_no, _never, caller="driver:9"):
            pytest.fail("the sixth was let in")
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "1")
        began = time.monotonic()
        await waiters[0].wait(1)
        assert time.monotonic() - began >= 1, "woken at once: every long poll would be a busy loop"
    with service.waiting(order_no, _never, caller="driver:9", at_most=20):
        assert set(service._callers) == {"driver:9"}, "the places are free again"


async def test_a_stream_without_a_place_ends_and_does_not_spin(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is reached after the stream was let in."""
    app = world.make_app()
    driver_id = world.add_driver()
    order_no = world.add_order(driver_id=driver_id, status=OrderStatus.PAID)
    service: OrderWatch = app.state.services.watch
    monkeypatch.setattr(service, "check_room", _late_refusal(service))
    async with world.client(app) as api:
        began = time.monotonic()
        answer = await api.get(f"/v1/orders/{order_no}/events", headers=world.as_driver(driver_id))
    assert answer.status_code == 200
    assert answer.text.count("event: order") == 1
    assert time.monotonic() - began < 5


def _late_refusal(service: OrderWatch) -> Callable[[str, int], None]:
    check = service.check_room
    calls: list[str] = []

    def refuse(caller: str, at_most: int) -> None:
        calls.append(caller)
        check(caller, at_most if len(calls) == 1 else 0)

    return refuse
