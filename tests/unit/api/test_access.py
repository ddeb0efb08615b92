"""Every route with every role: let in or not, exactly as declared; strangers' objects do not exist."""

from datetime import timedelta

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from api.access import RouteAccess, UndeclaredRouteError, route_access
from api.auth.roles import Role
from domain.order import OrderStatus
from tests.unit.api.world import World

NO_ORDER = "P" + "Z" * 21
_PATH = {"{order_no}": NO_ORDER, "{code}": "ST001", "{out_trade_no}": NO_ORDER + "A001"}


def _url(path: str) -> str:
    for name, value in _PATH.items():
        path = path.replace(name, value)
    return path


async def _call(api: httpx.AsyncClient, route: RouteAccess, headers: dict[str, str]) -> httpx.Response:
    return await api.request(route.methods[0], _url(route.path), headers=headers)


def test_the_register_sees_every_route(world: World) -> None:
    registered = {r.path for r in route_access(world.app)}
    documented = set(world.app.openapi()["paths"])
    assert documented <= registered
    assert len(registered) >= 30
    pages = {"/", "/favicon.ico", "/docs", "/docs/{name}"}
    assert {"/healthz", "/readyz", "/metrics"} | pages == registered - documented


@pytest.mark.parametrize("role", list(Role))
async def test_every_route_with_every_role(world: World, api: httpx.AsyncClient, role: Role) -> None:
    headers = world.as_role(role)
    wrong = []
    for route in route_access(world.app):
        answer = await _call(api, route, headers)
        if Role.ANYONE in route.roles:
            # A refused login or an unsigned notification is also 401, but says so by its own code.
            right = answer.status_code != 403 and '"unauthenticated"' not in answer.text
        elif role is Role.ANYONE:
            right = answer.status_code == 401
        elif role in route.roles:
            right = answer.status_code not in (401, 403)
        else:
            right = answer.status_code == 403
        if not right or answer.status_code >= 500:
            wrong.append((route.path, answer.status_code))
    assert wrong == []


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer x.y.z",
        "Bearer é",
        "Basic dXNlcjpwYXNz",
        "Device 1",
        "Device 1.wrong",
        "Device 99999999999999999999.x",
        "Device ١.x",
    ],
)
async def test_bad_credentials_are_all_the_same(world: World, api: httpx.AsyncClient, header: str) -> None:
    answer = await api.get("/v1/orders", headers=[(b"Authorization", header.encode("utf-8"))])
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_a_route_without_declaration_does_not_start() -> None:
    app = FastAPI()
    router = APIRouter()

    @router.get("/open")
    async def open_to_all() -> str:
        return "oops"

    app.include_router(router)
    with pytest.raises(UndeclaredRouteError, match="/open"):
        route_access(app)


@pytest.mark.parametrize(
    ("role", "code", "sees"),
    [
        ("cashier", "ST001", True),
        ("cashier", "ST002", False),
        ("manager", "ST900", False),
        ("operator", "ST002", True),
        ("operator", "ST900", False),
        ("auditor", "ST900", False),
        ("admin", "ST900", True),
    ],
)
@pytest.mark.feature("002-5")
async def test_staff_see_their_own_stations_only(
    world: World, api: httpx.AsyncClient, role: str, code: str, sees: bool
) -> None:
    order_no = world.add_order("ST001", needs_person="look")
    headers = world.as_staff(role, code)
    for path in (f"/v1/orders/{order_no}", f"/v1/orders/{order_no}/story"):
        assert (await api.get(path, headers=headers)).status_code == (200 if sees else 404)
    for path in ("/v1/cashier/unpaid", "/v1/cashier/attention", "/v1/orders"):
        listed = await api.get(path, headers=headers)
        assert (order_no in listed.text) is sees


async def test_a_cashier_cannot_move_another_stations_order(world: World, api: httpx.AsyncClient) -> None:
    order_no = world.add_order("ST001")
    headers = world.as_staff("cashier", "ST002")
    before = len(world.temporal.commands)
    for path, body in (
        (f"/v1/cashier/orders/{order_no}/cash", {"received_fen": 100}),
        (f"/v1/cashier/orders/{order_no}/cancel", {"reason": "不是我的"}),
        (f"/v1/cashier/orders/{order_no}/resolve", {"action": "collect_cash", "note": "已收"}),
        (f"/v1/orders/{order_no}/pay", {"method": "wechat_native"}),
        (f"/v1/orders/{order_no}/cancel", {"reason": "不是我的"}),
    ):
        answer = await api.post(path, json=body, headers=headers | world.key())
        assert answer.status_code == 404, path
    assert len(world.temporal.commands) == before


@pytest.mark.parametrize(
    ("mode", "status"), [("prepaid", OrderStatus.AWAITING_PAYMENT), ("postpaid", OrderStatus.COMPLETED)]
)
async def test_a_driver_sees_own_orders_only(
    world: World, api: httpx.AsyncClient, mode: str, status: OrderStatus
) -> None:
    mine, other = world.add_driver(), world.add_driver()
    order_no = world.add_order(driver_id=mine, mode=mode, status=status)
    world.add_receipt(order_no)
    for path in (f"/v1/orders/{order_no}", f"/v1/orders/{order_no}/receipt", f"/v1/orders/{order_no}/events"):
        if not path.endswith("events"):
            assert (await api.get(path, headers=world.as_driver(mine))).status_code == 200
        assert (await api.get(path, headers=world.as_driver(other))).status_code == 404
    answer = await api.post(
        f"/v1/orders/{order_no}/cancel",
        json={"reason": "不要了"},
        headers=world.as_driver(other) | world.key(),
    )
    assert answer.status_code == 404


async def test_who_asked_to_pay_first_keeps_nobody_else_from_paying(
    world: World, api: httpx.AsyncClient
) -> None:
    first, customer = world.add_driver(), world.add_driver()
    newest = world.clock.now + timedelta(seconds=1)
    order_no = world.add_order(driver_id=first, created_at=newest)
    world.add_attempt(order_no, driver_id=first, method="wechat_jsapi")
    headers = world.as_driver(customer)
    code = {"code": world.nozzle_text()}
    seen = (await api.post("/v1/nozzle-codes/resolve", json=code, headers=headers)).json()["unpaid"]
    assert seen["order_no"] == order_no
    told = (await api.get(f"/v1/orders/{order_no}", headers=headers)).json()
    assert not {"driver_id", "paid_by", "attempts", "client_params"} & set(told)
    pay = await api.post(
        f"/v1/orders/{order_no}/pay", json={"method": "wechat_jsapi"}, headers=headers | world.key()
    )
    assert pay.status_code == 200, pay.text
    assert (await api.get("/v1/orders", headers=headers)).json()["orders"] == []


async def test_a_driver_who_asked_to_pay_still_sees_the_sale_that_another_paid(
    world: World, api: httpx.AsyncClient
) -> None:
    asked, winner, stranger = (world.add_driver() for _ in range(3))
    order_no = world.add_order(driver_id=winner, status=OrderStatus.COMPLETED)
    world.add_attempt(order_no, driver_id=asked)
    world.add_receipt(order_no)
    path = f"/v1/orders/{order_no}"
    seen = [
        (await api.get(path, headers=world.as_driver(one))).status_code for one in (asked, winner, stranger)
    ]
    assert seen == [200, 200, 404]
    assert (await api.get(f"{path}/receipt", headers=world.as_driver(asked))).status_code == 404


async def test_an_unclaimed_sale_may_be_paid_but_not_cancelled_by_a_driver(
    world: World, api: httpx.AsyncClient
) -> None:
    order_no = world.add_order()
    headers = world.as_driver()
    paid = await api.post(
        f"/v1/orders/{order_no}/pay", json={"method": "wechat_jsapi"}, headers=headers | world.key()
    )
    assert paid.status_code == 200
    cancelled = await api.post(
        f"/v1/orders/{order_no}/cancel", json={"reason": "不想付"}, headers=headers | world.key()
    )
    assert cancelled.status_code == 404


async def test_a_driver_who_claimed_a_sale_cannot_write_it_off(world: World, api: httpx.AsyncClient) -> None:
    driver = world.add_driver()
    order_no = world.add_order(driver_id=driver)
    cancelled = await api.post(
        f"/v1/orders/{order_no}/cancel",
        json={"reason": "不想付"},
        headers=world.as_driver(driver) | world.key(),
    )
    assert cancelled.status_code == 403
    assert order_no not in {number for number, _ in world.temporal.commands}


async def test_a_terminal_sees_its_nozzles_only(world: World, api: httpx.AsyncClient) -> None:
    first, second = world.add_order(nozzle=1), world.add_order(nozzle=2)
    strange = world.add_order("ST002")
    headers = world.add_terminal(nozzles="2")
    listed = (await api.get("/v1/terminal/unpaid", headers=headers)).text
    assert second in listed
    assert first not in listed
    assert strange not in listed
    assert (await api.get(f"/v1/terminal/orders/{first}", headers=headers)).status_code == 404


async def test_what_costs_money_needs_a_manager(world: World, api: httpx.AsyncClient) -> None:
    order_no = world.add_order(needs_person="shortfall")
    path, body = f"/v1/cashier/orders/{order_no}/resolve", {"action": "write_off", "note": "顾客已走"}
    cashier = await api.post(path, json=body, headers=world.as_staff("cashier") | world.key())
    assert cashier.status_code == 403
    manager = await api.post(path, json=body, headers=world.as_staff("manager") | world.key())
    assert manager.status_code == 200
