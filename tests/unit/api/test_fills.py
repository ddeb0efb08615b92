"""Quote and start: what is checked before a workflow exists, and that a retry meets its own order."""

import httpx
import pytest

from contracts.fill import StartOutcome
from domain.payment import PayMethod
from tests.unit.api.world import PRICE_FEN, PRICE_VERSION, World


async def test_quote_gives_the_price_in_force_and_an_estimate(world: World, api: httpx.AsyncClient) -> None:
    body = {"station_code": "ST001", "nozzle_no": 1, "amount_fen": 20_000}
    answer = await api.post("/v1/fills/quote", json=body, headers=world.as_driver())
    assert answer.status_code == 200, answer.text
    assert answer.json()["price_fen_per_unit"] == PRICE_FEN
    assert answer.json()["price_version"] == PRICE_VERSION
    assert answer.json()["estimated_quantity_milli"] == 25_478


@pytest.mark.feature("002-4")
async def test_start_returns_payment_parameters(world: World, api: httpx.AsyncClient) -> None:
    headers = world.as_driver() | world.key()
    answer = await api.post("/v1/fills", json=world.start_body(), headers=headers)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["pay"]["client_params"] == {"package": "prepay_id=wx1"}
    labels = world.temporal.labels[body["order_no"]]
    assert labels.summary == "预付 ST001 1号枪 ¥200.00"
    assert (labels.operator_code, labels.station_code) == ("OPA", "ST001")
    seen = await api.get(f"/v1/orders/{body['order_no']}", headers=headers)
    assert seen.json()["due_fen"] == 20_000
    assert seen.json()["status_text"] == "待支付"


async def test_a_repeated_start_is_the_same_order(world: World, api: httpx.AsyncClient) -> None:
    headers = world.as_driver() | world.key()
    first = await api.post("/v1/fills", json=world.start_body(nozzle_no=2), headers=headers)
    again = await api.post("/v1/fills", json=world.start_body(nozzle_no=2), headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()


async def test_same_key_with_another_body_is_refused(world: World, api: httpx.AsyncClient) -> None:
    headers = world.as_driver() | world.key()
    await api.post("/v1/fills", json=world.start_body(), headers=headers)
    other = await api.post("/v1/fills", json=world.start_body(amount_fen=30_000), headers=headers)
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


async def test_the_same_key_of_another_driver_is_another_order(world: World, api: httpx.AsyncClient) -> None:
    key = world.key()
    numbers = [
        (await api.post("/v1/fills", json=world.start_body(), headers=world.as_driver() | key)).json()[
            "order_no"
        ]
        for _ in range(2)
    ]
    assert numbers[0] != numbers[1]


async def test_a_start_needs_a_key(world: World, api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/fills", json=world.start_body(), headers=world.as_driver())
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("change", [{"price_fen_per_unit": 700}, {"price_version": 1}])
async def test_price_changed_since_the_quote(
    world: World, api: httpx.AsyncClient, change: dict[str, int]
) -> None:
    calls = world.temporal.start_calls
    headers = world.as_driver() | world.key()
    answer = await api.post("/v1/fills", json=world.start_body(**change), headers=headers)
    assert answer.status_code == 409
    assert answer.json()["code"] == "price_changed"
    assert answer.json()["price_fen_per_unit"] == PRICE_FEN
    assert answer.json()["price_version"] == PRICE_VERSION
    assert world.temporal.start_calls == calls, "a refused start must not make a workflow"


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (StartOutcome.PRICE_CHANGED, 409, "price_changed"),
        (StartOutcome.NOZZLE_TAKEN, 409, "nozzle_taken"),
        (StartOutcome.TOO_MANY_UNPAID, 409, "too_many_unpaid"),
        (StartOutcome.STATION_STALE, 503, "station_stale"),
        (StartOutcome.KEY_REUSED, 422, "idempotency_key_reused"),
        (StartOutcome.PAYMENT_UNAVAILABLE, 503, "payment_unavailable"),
        (StartOutcome.NOZZLE_UNKNOWN, 422, "nozzle_unknown"),
        (StartOutcome.NOZZLE_CLOSED, 422, "nozzle_closed"),
        (StartOutcome.AMOUNT_INVALID, 422, "amount_invalid"),
    ],
)
async def test_what_the_order_refuses(
    world: World, api: httpx.AsyncClient, outcome: StartOutcome, status: int, code: str
) -> None:
    world.temporal.outcome = outcome
    headers = world.as_driver() | world.key()
    answer = await api.post("/v1/fills", json=world.start_body(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_held_nozzle_is_taken(world: World, api: httpx.AsyncClient) -> None:
    from datetime import timedelta

    from db.tables.station import FuellingPoint

    point_id = world.ids["ST002", 1].fuelling_point_id
    with world.session() as db:
        point = db.get_one(FuellingPoint, point_id)
        point.holder_order_no, point.held_until = "P" + "A" * 21, world.clock.now + timedelta(minutes=1)
    body = world.start_body(station_code="ST002")
    answer = await api.post("/v1/fills", json=body, headers=world.as_driver() | world.key())
    assert (answer.status_code, answer.json()["code"]) == (409, "nozzle_taken")
    with world.session() as db:
        db.get_one(FuellingPoint, point_id).held_until = world.clock.now - timedelta(seconds=1)
    late = await api.post("/v1/fills", json=body, headers=world.as_driver() | world.key())
    assert late.status_code == 201, "a hold that ran out holds nothing"


async def test_a_silent_station_takes_no_order(world: World, api: httpx.AsyncClient) -> None:
    from datetime import timedelta

    from db.tables.gateway import StationLink

    with world.session() as db:
        db.get_one(StationLink, "ST900").last_seen_at = world.clock.now - timedelta(minutes=1)
    body = world.start_body(station_code="ST900")
    answer = await api.post("/v1/fills", json=body, headers=world.as_driver() | world.key())
    assert (answer.status_code, answer.json()["code"]) == (503, "station_stale")
    shown = await api.get("/v1/stations/ST900", headers=world.as_driver())
    assert shown.json()["is_online"] is False


@pytest.mark.parametrize("amount_fen", [99, 500_001])
async def test_amounts_out_of_bounds(world: World, api: httpx.AsyncClient, amount_fen: int) -> None:
    body = world.start_body(amount_fen=amount_fen)
    answer = await api.post("/v1/fills", json=body, headers=world.as_driver() | world.key())
    assert (answer.status_code, answer.json()["code"]) == (422, "amount_invalid")


async def test_an_unknown_nozzle(world: World, api: httpx.AsyncClient) -> None:
    body = world.start_body(nozzle_no=77)
    answer = await api.post("/v1/fills", json=body, headers=world.as_driver() | world.key())
    assert answer.status_code == 404


async def test_temporal_away_loses_nothing(world: World, api: httpx.AsyncClient) -> None:
    world.temporal.away = True
    headers = world.as_driver() | world.key()
    answer = await api.post("/v1/fills", json=world.start_body(), headers=headers)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert "重试" in answer.json()["title"]
    world.temporal.away = False
    again = await api.post("/v1/fills", json=world.start_body(), headers=headers)
    assert again.status_code == 201


@pytest.mark.parametrize("method", ["cash", "wechat_native"])
async def test_a_cashier_starts_at_the_counter(world: World, api: httpx.AsyncClient, method: str) -> None:
    headers = world.as_staff("cashier") | world.key()
    answer = await api.post("/v1/fills", json=world.start_body(method=method), headers=headers)
    assert answer.status_code == 201, answer.text
    fill = world.temporal.starts[answer.json()["order_no"]]
    assert fill.cashier_id == world.staff_ids["cashier-ST001"]
    assert fill.method is PayMethod(method)


async def test_nobody_starts_at_a_strange_station_or_by_a_strange_method(
    world: World, api: httpx.AsyncClient
) -> None:
    cashier = world.as_staff("cashier", "ST002")
    answer = await api.post("/v1/fills", json=world.start_body(method="cash"), headers=cashier | world.key())
    assert answer.status_code == 404
    kiosk = world.add_terminal(nozzles="2")
    answer = await api.post(
        "/v1/fills", json=world.start_body(method="wechat_native"), headers=kiosk | world.key()
    )
    assert answer.status_code == 404
    driver = world.as_driver()
    answer = await api.post("/v1/fills", json=world.start_body(method="cash"), headers=driver | world.key())
    assert (answer.status_code, answer.json()["code"]) == (422, "method_not_allowed_here")
