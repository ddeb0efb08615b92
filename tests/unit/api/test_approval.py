"""A cashier does not let delivered fuel go unpaid alone: a manager types login and password, or nothing happens."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlmodel import select

from api.approval import Approver, people_of
from api.auth.logins import MAX_FAILED_LOGINS
from api.auth.roles import Principal, Role
from api.console_link import ConsoleCommandsAdapter
from api.schemas.orders import CancelBody
from contracts.fill import CancelCommand
from db.tables.identity import Staff
from db.tables.inbox import InboxMessage
from domain.order import OrderStatus
from tests.unit.api.world import PASSWORD, World

REASON = "顾客驶离未付款"
ROUTES = ("/v1/cashier/orders/{}/cancel", "/v1/orders/{}/cancel")


@pytest.fixture
async def till(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app of this test: tries of other tests do not count in its limits."""
    app = world.make_app()
    async with world.client(app) as client:
        yield client
    app.state.services.db.close()


def _body(login: str = "", password: str = PASSWORD) -> dict[str, Any]:
    return {"reason": REASON, "approver": {"login": login, "password": password} if login else None}


def _manager(world: World, code: str = "ST001", **changes: Any) -> str:
    """Add a manager of a test's own; return the login."""
    with world.session() as db:
        like = db.exec(select(Staff).where(Staff.login == f"manager-{code}")).one()
        fresh = {"login": f"manager-{next(world.numbers)}", "failed_logins": 0, "locked_until": None}
        row = {**like.model_dump(exclude={"id"}), **fresh, **changes}
        db.add(Staff(**row))
    login: str = row["login"]
    return login


def _staff(world: World, login: str) -> Staff:
    with world.session() as db:
        return db.exec(select(Staff).where(Staff.login == login)).one()


async def _cancel(
    till: httpx.AsyncClient, world: World, order_no: str, body: dict[str, Any], **sent: Any
) -> httpx.Response:
    headers = sent.get("headers") or world.as_staff("cashier")
    path = sent.get("route", ROUTES[0]).format(order_no)
    return await till.post(path, json=body, headers=headers | (sent.get("key") or world.key()))


def _told(world: World, order_no: str) -> list[CancelCommand]:
    return [command for number, command in world.temporal.commands if number == order_no]


def _keys(world: World, order_no: str) -> list[InboxMessage]:
    with world.session() as db:
        return list(db.exec(select(InboxMessage).where(InboxMessage.business_no == order_no)))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.feature("002-5")
async def test_a_cashier_does_not_write_off_fuel_alone(
    world: World, till: httpx.AsyncClient, route: str
) -> None:
    order_no = world.add_order("ST001", 1, charge_fen=30_000)
    answer = await _cancel(till, world, order_no, {"reason": REASON}, route=route)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (403, "approval_needed")
    assert "站长" in problem["detail"]
    assert _told(world, order_no) == []
    assert _keys(world, order_no) == []


async def test_a_sale_whose_amount_is_not_decided_yet_is_delivered_fuel_too(
    world: World, till: httpx.AsyncClient
) -> None:
    order_no = world.add_order("ST001", 1, charge_fen=0, needs_person="amount_mismatch")
    assert (await _cancel(till, world, order_no, {"reason": REASON})).status_code == 403
    assert _told(world, order_no) == []


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("manager-ST001", "wrong"),
        ("nobody", PASSWORD),
        ("cashier-ST001", PASSWORD),
        ("auditor-ST001", PASSWORD),
        ("manager-ST002", PASSWORD),
        ("operator-ST900", PASSWORD),
    ],
)
async def test_an_approval_that_does_not_count_changes_nothing(
    world: World, till: httpx.AsyncClient, login: str, password: str
) -> None:
    order_no = world.add_order()
    answer = await _cancel(till, world, order_no, _body(login, password))
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (403, "approval_refused")
    assert problem["detail"] == "站长账号或密码不正确、账号已暂时锁定，或无权批准本站订单"
    assert _told(world, order_no) == []
    assert _keys(world, order_no) == []


@pytest.mark.parametrize("changes", [{"is_active": False}, {"station_id": None}, {"locked_until": True}])
async def test_a_manager_who_may_not_log_in_approves_nothing(
    world: World, till: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    if "locked_until" in changes:
        changes = {"locked_until": world.clock.now + timedelta(minutes=5), "failed_logins": 5}
    order_no, login = world.add_order(), _manager(world, **changes)
    answer = await _cancel(till, world, order_no, _body(login))
    assert (answer.status_code, answer.json()["code"]) == (403, "approval_refused")
    assert _told(world, order_no) == []


async def test_a_cashier_who_became_manager_does_not_approve_the_own_cancel(
    world: World, till: httpx.AsyncClient
) -> None:
    order_no, login = world.add_order(), _manager(world)
    still_cashier = world.bearer(Role.CASHIER, _staff(world, login).id or 0)
    answer = await _cancel(till, world, order_no, _body(login), headers=still_cashier)
    assert (answer.status_code, answer.json()["code"]) == (403, "approval_refused")


async def test_wrong_passwords_count_towards_the_lock_of_the_login(
    world: World, till: httpx.AsyncClient
) -> None:
    order_no, login = world.add_order(), _manager(world)
    for _ in range(MAX_FAILED_LOGINS):
        assert (await _cancel(till, world, order_no, _body(login, "wrong"))).status_code == 403
    assert _staff(world, login).locked_until is not None
    assert (await _cancel(till, world, order_no, _body(login))).json()["code"] == "approval_refused"
    entered = await till.post("/v1/staff/login", json={"login": login, "password": PASSWORD})
    assert entered.status_code == 401
    assert _told(world, order_no) == []


async def test_a_right_password_forgets_the_wrong_ones(world: World, till: httpx.AsyncClient) -> None:
    order_no, login = world.add_order(), _manager(world)
    await _cancel(till, world, order_no, _body(login, "wrong"))
    assert _staff(world, login).failed_logins == 1
    assert (await _cancel(till, world, order_no, _body(login))).status_code == 200
    assert _staff(world, login).failed_logins == 0


async def test_approvals_are_limited_like_logins(world: World, till: httpx.AsyncClient) -> None:
    order_no = world.add_order()
    answers = [await _cancel(till, world, order_no, _body("guessed", "x")) for _ in range(11)]
    assert [a.status_code for a in answers] == [403] * 10 + [429]
    assert answers[-1].headers["Retry-After"] == "60"


@pytest.mark.parametrize("approver", ["manager-ST001", "operator-ST001", "operator-ST002", "admin-ST900"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.feature("002-5")
async def test_the_story_names_who_cancelled_and_who_approved(
    world: World, till: httpx.AsyncClient, route: str, approver: str
) -> None:
    order_no = world.add_order()
    answer = await _cancel(till, world, order_no, _body(approver), route=route)
    assert (answer.status_code, answer.json()["status_text"]) == (200, "已取消")
    mine, theirs = world.staff_ids["cashier-ST001"], world.staff_ids[approver]
    (told,) = _told(world, order_no)
    assert told == CancelCommand(actor=f"staff:{mine} (approved staff:{theirs})", reason=REASON)
    assert people_of(told.actor) == (f"staff:{mine}", f"staff:{theirs}")


async def test_a_corrected_password_goes_with_the_same_key_and_a_repeat_answers_the_same(
    world: World, till: httpx.AsyncClient
) -> None:
    order_no, key = world.add_order(), world.key()
    assert (await _cancel(till, world, order_no, _body("manager-ST001", "x"), key=key)).status_code == 403
    first = await _cancel(till, world, order_no, _body("manager-ST001"), key=key)
    world.change_order(order_no, status=OrderStatus.CANCELLED.value)
    again = await _cancel(till, world, order_no, _body("manager-ST001"), key=key)
    assert (first.status_code, again.status_code, again.json()) == (200, 200, first.json())


async def test_the_password_stays_where_it_was_typed(
    world: World, till: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    order_no = world.add_order()
    refused = await _cancel(till, world, order_no, _body("cashier-ST001"))
    given = await _cancel(till, world, order_no, _body("manager-ST001"))
    assert (refused.status_code, given.status_code) == (403, 200)
    left = [refused.text, given.text, repr(_told(world, order_no)), "".join(capsys.readouterr())]
    left += [repr(Approver(login="m", password=PASSWORD)), repr(CancelBody.model_validate(_body("m")))]
    assert not [text for text in left if PASSWORD in text]


def test_an_idempotency_record_is_the_same_for_every_password() -> None:
    one, other = (CancelBody.model_validate(_body("m", word)) for word in ("first", "other"))
    assert one.model_dump_json() == other.model_dump_json()
    assert one.model_dump_json() != CancelBody.model_validate(_body("n", "first")).model_dump_json()


@pytest.mark.parametrize("role", ["manager", "operator", "admin"])
async def test_whoever_may_approve_cancels_alone(world: World, till: httpx.AsyncClient, role: str) -> None:
    order_no = world.add_order()
    answer = await _cancel(till, world, order_no, {"reason": REASON}, headers=world.as_staff(role))
    assert answer.status_code == 200
    assert _told(world, order_no)[0].actor == f"staff:{world.staff_ids[f'{role}-ST001']}"


@pytest.mark.parametrize("status", [OrderStatus.AWAITING_PAYMENT, OrderStatus.PAID, OrderStatus.AUTHORISED])
async def test_a_cashier_cancels_alone_before_fuel_flows(
    world: World, till: httpx.AsyncClient, status: OrderStatus
) -> None:
    order_no = world.add_order(status=status, mode="prepaid", preset_fen=20_000)
    answer = await _cancel(till, world, order_no, {"reason": "顾客放弃加注"})
    assert answer.status_code == 200
    assert _told(world, order_no)[0].actor == f"staff:{world.staff_ids['cashier-ST001']}"


async def test_another_station_s_sale_is_not_there_with_any_approval(
    world: World, till: httpx.AsyncClient
) -> None:
    order_no = world.add_order("ST002")
    for body in ({"reason": REASON}, _body("manager-ST002"), _body("admin-ST001")):
        assert (await _cancel(till, world, order_no, body)).status_code == 404
    assert _told(world, order_no) == []


@pytest.mark.parametrize(
    "approver",
    [
        {},
        {"login": "manager-ST001"},
        {"login": "", "password": "x"},
        {"login": "manager-ST001", "password": ""},
        {"login": "manager-ST001", "password": "x" * 129},
        {"login": "manager-ST001", "password": 1},
        {"login": "manager-ST001", "password": "x", "role": "manager"},
    ],
)
async def test_half_an_approver_is_refused_before_any_password_is_checked(
    world: World, till: httpx.AsyncClient, approver: dict[str, Any]
) -> None:
    order_no = world.add_order()
    answer = await _cancel(till, world, order_no, {"reason": REASON, "approver": approver})
    assert answer.status_code == 422
    assert _told(world, order_no) == []


async def test_the_console_asks_the_same_approval(world: World) -> None:
    parts = world.make_app().state.services
    console = ConsoleCommandsAdapter(parts.commands, parts.approvals)
    station, order_no = world.ids["ST001"], world.add_order()
    person = Principal(
        role=Role.CASHIER,
        id=world.staff_ids["cashier-ST001"],
        operator_id=station.operator_id,
        station_id=station.id,
    )
    wrong = Approver(login="manager-ST001", password="wrong")
    right = Approver(login="manager-ST001", password=PASSWORD)
    answers = [await console.cancel(order_no, person, REASON, who, "1.1.1.1") for who in (None, wrong, right)]
    assert [(a.ok, a.code) for a in answers] == [
        (False, "approval_needed"),
        (False, "approval_refused"),
        (True, ""),
    ]
    assert "站长" in answers[0].message
    assert len(_told(world, order_no)) == 1
    parts.db.close()
