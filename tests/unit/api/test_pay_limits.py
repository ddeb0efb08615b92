"""How often an order may be asked for a payment: refused before the order hears of it, never a repeated request."""

import httpx
import pytest
from sqlmodel import col, func, select

from db.tables.inbox import InboxMessage
from domain import policy
from tests.unit.api.world import World

AT_ONCE = 20


async def _pay(api: httpx.AsyncClient, order_no: str, headers: dict[str, str]) -> httpx.Response:
    body = {"method": "wechat_native"}
    return await api.post(f"/v1/orders/{order_no}/pay", json=body, headers=headers)


def _asked(world: World, order_no: str) -> int:
    return sum(1 for number, _ in world.temporal.commands if number == order_no)


def _bound_keys(world: World, order_no: str) -> int:
    with world.session() as db:
        statement = (
            select(func.count()).select_from(InboxMessage).where(col(InboxMessage.business_no) == order_no)
        )
        return db.exec(statement).one()


async def test_one_screen_asks_for_one_order_twenty_times_a_minute(
    world: World, api: httpx.AsyncClient
) -> None:
    order_no, pillar = world.add_order(), world.add_terminal(kind="pillar")
    first = pillar | world.key()
    assert (await _pay(api, order_no, first)).status_code == 200
    for _ in range(AT_ONCE - 1):
        assert (await _pay(api, order_no, pillar | world.key())).status_code == 200
    refused = await _pay(api, order_no, pillar | world.key())
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert refused.headers["retry-after"] == "60"
    assert _asked(world, order_no) == AT_ONCE, "the order did not hear of the last one"
    assert _bound_keys(world, order_no) == AT_ONCE, "its key is free for the same request a minute later"
    assert (await _pay(api, order_no, first)).status_code == 200, "a repeated request gets its answer"
    assert (await _pay(api, order_no, world.add_terminal(kind="kiosk") | world.key())).status_code == 200
    assert (await _pay(api, world.add_order(), pillar | world.key())).status_code == 200


async def test_an_order_with_too_many_payments_is_asked_for_no_other(
    world: World, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "MOST_ATTEMPTS", 2)
    order_no, kiosk = world.add_order(), world.add_terminal()
    first = kiosk | world.key()
    answer = await _pay(api, order_no, first)
    assert answer.status_code == 200
    world.add_attempt(order_no, 1)
    world.add_attempt(order_no, 2)
    refused = await _pay(api, order_no, kiosk | world.key())
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_payments")
    assert refused.json()["detail"] == "请到柜台付现金"
    assert _asked(world, order_no) == 1
    assert (await _pay(api, order_no, first)).json() == answer.json()


async def test_a_payment_that_the_order_refuses_is_a_problem_in_chinese(
    world: World, api: httpx.AsyncClient
) -> None:
    order_no = world.add_order()
    world.temporal.rejects = ("too_many_payments", "付款次数过多，请到柜台付现金")
    refused = await _pay(api, order_no, world.add_terminal() | world.key())
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_payments")
    assert refused.json()["detail"] == "付款次数过多，请到柜台付现金"
