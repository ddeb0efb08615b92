"""Whatever is sent, nothing answers 5xx, and every refusal is a problem without a stack."""

import asyncio
import json
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.access import RouteAccess, route_access
from api.auth.roles import Role
from api.middleware import MAX_BODY_BYTES, BodyRefusedError
from api.middleware import _check_body as check_body
from tests.unit.api.world import World

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_odd = st.sampled_from(
    ["", "\x00", "\ud800", "💥" * 40, "0", "-1", "9" * 400, "'; DROP TABLE fuel_order;--", "../..", "%s"]
)
_BODY_NAMES = (
    "code login password refresh_token station_code nozzle_no amount_fen price_fen_per_unit price_version "
    "method auth_code received_fen reason action note"
)
_NAMES = tuple(_BODY_NAMES.split(" "))
_PARAMS = [
    "city",
    "product",
    "latitude_e6",
    "longitude_e6",
    "limit",
    "cursor",
    "status",
    "station",
    "wait",
    "since",
    "mine",
]
_GOOD: dict[str, Any] = {
    "station_code": "ST001",
    "nozzle_no": 1,
    "amount_fen": 20_000,
    "price_fen_per_unit": 785,
    "price_version": 2,
    "method": "wechat_jsapi",
    "reason": "原因",
    "note": "说明",
    "action": "collect_cash",
    "received_fen": 100,
}


@st.composite
def _requests(draw: st.DrawFn) -> dict[str, Any]:
    body = {
        name: draw(st.one_of(st.just(_GOOD.get(name, "x")), _odd, _json))
        for name in draw(st.lists(st.sampled_from(_NAMES), max_size=8, unique=True))
    }
    raw = draw(st.one_of(st.just(None), st.binary(max_size=40), _json.map(_dump)))
    return {
        "body": raw if raw is not None else _dump(body),
        "query": draw(st.dictionaries(st.sampled_from(_PARAMS), _odd | st.text(max_size=8), max_size=3)),
        "path": draw(_odd | st.text(min_size=1, max_size=12) | st.just("P" + "A" * 21)),
        "key": draw(st.sampled_from(["", "short", "good-key-0001", "ü" * 9, "x" * 500])),
    }


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _target(route: RouteAccess, part: str) -> str:
    from urllib.parse import quote

    text = quote(part.encode("utf-8", "surrogatepass"), safe="") or "-"
    for name in ("{order_no}", "{code}", "{out_trade_no}"):
        route_path = route.path.replace(name, text)
        if route_path != route.path:
            return route_path
    return route.path


def _query(params: dict[str, str]) -> str:
    from urllib.parse import quote

    return "&".join(f"{k}={quote(v.encode('utf-8', 'surrogatepass'))}" for k, v in params.items())


_ROLES = [Role.DRIVER, Role.TERMINAL, Role.CASHIER, Role.ADMIN]


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=_requests(), role=st.sampled_from(_ROLES), data=st.data())
def test_nothing_answers_5xx(
    shared_world: World, request: dict[str, Any], role: Role, data: st.DataObject
) -> None:
    world = shared_world
    routes = [r for r in route_access(world.app) if not r.path.endswith("/events")]
    route = data.draw(st.sampled_from(routes))
    cached = world.ids.setdefault(("headers", role), None) or world.as_role(role)
    world.ids["headers", role] = cached
    headers = {
        "authorization": cached["Authorization"].encode(),
        "content-type": b"application/json",
        "wechatpay-signature": b"good",
        "idempotency-key": request["key"].encode(),
    }
    url = f"http://api.test{_target(route, request['path'])}?{_query(request['query'])}"

    async def send() -> httpx.Response:
        async with world.client() as api:
            if "wait" in request["query"]:
                return await asyncio.wait_for(
                    api.request(route.methods[0], url, content=request["body"], headers=headers), 40
                )
            return await api.request(route.methods[0], url, content=request["body"], headers=headers)

    answer = asyncio.run(send())
    assert answer.status_code < 500, (route, request, answer.text)
    if answer.status_code >= 400 and "/notify/" not in route.path:
        assert answer.headers["content-type"] == "application/problem+json", (route, answer.text)
        assert answer.json()["code"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("DELETE", "/v1/orders", 405, "method_not_allowed"),
        ("PUT", "/v1/fills", 405, "method_not_allowed"),
        ("GET", "/v1/orders/%00", 422, "invalid"),
        ("GET", "/v1/stations?city=%00", 422, "invalid"),
        ("GET", "/v1/stations/%ff%fe", 422, "invalid"),
        ("GET", "/v1/orders?limit=99999999999999999999999", 422, "invalid"),
        ("GET", f"/v1/orders?station={'x' * 5000}", 422, "invalid"),
    ],
)
async def test_every_refusal_is_a_problem(
    world: World, api: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await api.request(method, path, headers=world.as_driver())
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_large_deep_and_hostile_bodies(world: World, api: httpx.AsyncClient) -> None:
    headers = world.as_driver() | world.key() | {"Content-Type": "application/json"}

    async def send(content: bytes) -> int:
        return (await api.post("/v1/fills", content=content, headers=headers)).status_code

    assert await send(b"x" * (MAX_BODY_BYTES + 1)) == 413
    assert await send(b"[" * 100_000) == 422
    assert await send(b'{"a":' * 500 + b"1" + b"}" * 500) == 422
    assert await send(b'{"a":[' + b"[]," * 600 + b"1]}") == 422
    assert await send(b'["]",' * 512 + b"1" + b"]" * 512) == 422, "brackets in texts do not hide the others"
    assert await send(b'{"station_code": "ST\\u0000"}') == 422
    assert await send(b'{"amount_fen": ' + b"9" * 5_000 + b"}") in (400, 422)
    assert await send(b'{"station_code": "\\ud800"}') == 422
    assert await send(b"\xff\xfe") in (400, 422)
    assert await send(b'{"amount_fen": 1e3}') == 422
    assert await send(b'{"amount_fen": NaN}') == 422

    async def endless() -> Any:
        for _ in range(20):
            yield b"y" * 65_536

    answer = await api.post("/v1/fills", content=endless(), headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize("part", [b"[]", b"[", b"]", b"{[", b'"[",'])
def test_counting_brackets_costs_next_to_nothing(part: bytes) -> None:
    body = part * (MAX_BODY_BYTES // len(part))
    took_s = []
    for _ in range(3):
        began = time.perf_counter()
        with suppress(BodyRefusedError):
            check_body(body)
        took_s.append(time.perf_counter() - began)
    assert min(took_s) < 0.005, f"{min(took_s) * 1000:.0f} ms of the event loop for one anonymous request"


@pytest.mark.parametrize(("depth", "refused"), [(32, False), (33, True)])
def test_bodies_nest_up_to_32_levels(depth: int, refused: bool) -> None:
    body = b'{"a":' * depth + b"1" + b"}" * depth
    if not refused:
        check_body(body)
        return
    with pytest.raises(BodyRefusedError):
        check_body(body)


async def test_a_fault_of_ours_shows_no_stack(world: World, api: httpx.AsyncClient) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    app = world.make_app()
    app.state.services.temporal.check = broken
    async with world.client(app) as broken_api:
        answer = await broken_api.get("/readyz")
    del app.state.services.temporal.check
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_database_that_is_away_is_503(world: World) -> None:
    from sqlalchemy import create_engine

    app = world.make_app(engine=create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    async with world.client(app) as api:
        answer = await api.get("/v1/stations", headers=world.as_driver())
        ready = await api.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "try_again")
    assert answer.headers["retry-after"]
    assert (ready.status_code, ready.json()["detail"]) == (503, "database")


async def test_probes_headers_and_metrics(world: World, api: httpx.AsyncClient) -> None:
    assert (await api.get("/healthz")).json() == {"status": "ok"}
    assert (await api.get("/readyz")).status_code == 200
    world.temporal.away = True
    assert (await api.get("/readyz")).json()["detail"] == "temporal"
    answer = await api.get("/v1/stations", headers=world.as_driver())
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    metrics = (await api.get("/metrics")).text
    assert 'jiazhu_api_requests_total{method="GET",route="/v1/stations",status="200"}' in metrics


async def test_the_documentation_is_complete(world: World, api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    assert "sandbox" in document["info"]["title"]
    for path, operations in document["paths"].items():
        assert path.startswith("/v1/")
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert operation["tags"], path
            assert operation["x-roles"], path
            assert operation["security"] or operation["x-roles"] == ["anyone"], path
            refusals = {s: set(r["content"]) for s, r in operation["responses"].items() if s[0] in "45"}
            assert refusals["4XX"] == {"application/problem+json"}, path
            if path.startswith("/v1/notify/"):
                assert refusals.pop("401") == {"application/json"}, "a channel is refused in its own form"
            assert set().union(*refusals.values()) == {"application/problem+json"}, path
    assert {"errors", "price_version"} <= set(document["components"]["schemas"]["Problem"]["properties"])
