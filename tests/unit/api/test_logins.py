"""Logins: codes, passwords, lockout, limits, rotation, theft."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest

from db.tables.identity import Driver, Session, Staff
from tests.unit.api.world import PASSWORD, World


async def _login(api: httpx.AsyncClient, login: str, password: str = PASSWORD) -> httpx.Response:
    return await api.post("/v1/staff/login", json={"login": login, "password": password})


async def _refresh(api: httpx.AsyncClient, token: str) -> httpx.Response:
    return await api.post("/v1/session/refresh", json={"refresh_token": token})


async def test_a_driver_logs_in_and_is_the_same_driver_next_time(
    world: World, api: httpx.AsyncClient
) -> None:
    subjects = []
    for code in ("ok-anna", "ok-berta"):
        answer = await api.post("/v1/driver/login", json={"code": code})
        assert answer.status_code == 200
        token = answer.json()["access_token"]
        subjects.append(jwt.decode(token, options={"verify_signature": False})["sub"])
        orders = await api.get("/v1/orders", headers={"Authorization": f"Bearer {token}"})
        assert orders.json() == {"orders": [], "next_cursor": ""}
    assert subjects[0] != subjects[1]
    async with world.client(world.make_app()) as later:
        answer = await later.post("/v1/driver/login", json={"code": "ok-anna"})
    token = answer.json()["access_token"]
    assert jwt.decode(token, options={"verify_signature": False})["sub"] == subjects[0]


async def test_a_used_or_wrong_code_is_refused(world: World, api: httpx.AsyncClient) -> None:
    await api.post("/v1/driver/login", json={"code": "ok-once"})
    for code in ("ok-once", "forged"):
        answer = await api.post("/v1/driver/login", json={"code": code})
        assert (answer.status_code, answer.json()["code"]) == (401, "login_failed")


async def test_the_phone_is_stored_encrypted_and_shown_masked(world: World, api: httpx.AsyncClient) -> None:
    driver_id = world.add_driver()
    answer = await api.post(
        "/v1/driver/phone", json={"code": "phone-13812345678"}, headers=world.as_driver(driver_id)
    )
    assert answer.json() == {"phone_masked": "138****5678"}
    with world.session() as db:
        row = db.get_one(Driver, driver_id)
    assert row.phone_cipher is not None
    assert "13812345678" not in row.phone_cipher
    assert world.cipher.decrypt("driver", "phone", row.phone_cipher) == "13812345678"
    assert row.phone_index == world.cipher.index("driver", "phone", "13812345678")


async def test_staff_log_in_with_their_station(world: World, api: httpx.AsyncClient) -> None:
    answer = await _login(api, "cashier-ST001")
    assert answer.status_code == 200
    token = answer.json()["access_token"]
    listed = await api.get("/v1/cashier/unpaid", headers={"Authorization": f"Bearer {token}"})
    assert listed.status_code == 200


async def test_five_wrong_passwords_lock_for_fifteen_minutes(world: World, api: httpx.AsyncClient) -> None:
    login = "manager-ST002"
    texts = {(await _login(api, login, "wrong")).json()["detail"] for _ in range(5)}
    locked = await _login(api, login)
    texts.add(locked.json()["detail"])
    texts.add((await _login(api, "nobody-here")).json()["detail"])
    assert locked.status_code == 401
    assert len(texts) == 1, "the words must not say which reason it was"
    world.clock.now += timedelta(minutes=15, seconds=1)
    assert (await _login(api, login)).status_code == 200
    with world.session() as db:
        assert db.get_one(Staff, world.staff_ids[login]).failed_logins == 0


async def _burst(world: World, login: str, passwords: list[str], address: str = "") -> list[int]:
    """Send all guesses at once, each from an address of its own unless one is given; return the statuses."""
    app = world.make_app()

    async def guess(number: int, password: str) -> int:
        client = (address or f"10.0.0.{number}", 1)
        transport = httpx.ASGITransport(app, client=client, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as one:
            return (await _login(one, login, password)).status_code

    return list(await asyncio.gather(*(guess(n, p) for n, p in enumerate(passwords))))


async def test_parallel_guesses_do_not_outrun_the_lock(world: World) -> None:
    login = "manager-ST900"
    codes = await _burst(world, login, ["wrong"] * 40 + [PASSWORD])
    assert 200 not in codes, "the 41st guess of one burst was let in though five lock the account"
    with world.session() as db:
        row = db.get_one(Staff, world.staff_ids[login])
        assert (row.failed_logins, row.locked_until) == (5, world.clock.now + timedelta(minutes=15))


async def test_one_address_has_five_guesses_in_a_burst(world: World) -> None:
    """The right one comes after the burst: within it, threads may judge it among the first five."""
    assert await _burst(world, "cashier-ST900", ["wrong"] * 9, "10.9.9.9") == [401] * 9
    assert await _burst(world, "cashier-ST900", [PASSWORD], "10.9.9.9") == [401]


async def test_four_wrong_passwords_at_once_do_not_lock_the_owner_out(
    world: World, api: httpx.AsyncClient
) -> None:
    login = "cashier-ST002"
    assert await _burst(world, login, ["wrong"] * 4) == [401] * 4
    assert (await _login(api, login)).status_code == 200


async def test_a_password_that_changed_while_it_was_checked_opens_nothing(world: World) -> None:
    login = "operator-ST001"
    app = world.make_app()
    services = app.state.services
    check = services.db.passwords.call

    async def change_meanwhile(work: Callable[[], bool]) -> bool:
        found: bool = await check(work)
        with world.session() as db:
            db.get_one(Staff, world.staff_ids[login]).password_hash = "changed"
        return found

    services.db.passwords.call = change_meanwhile
    async with world.client(app) as api:
        assert (await _login(api, login)).status_code == 401


async def test_an_inactive_person_cannot_log_in(world: World, api: httpx.AsyncClient) -> None:
    with world.session() as db:
        db.get_one(Staff, world.staff_ids["auditor-ST900"]).is_active = False
    assert (await _login(api, "auditor-ST900")).status_code == 401


async def test_too_many_tries_are_limited(world: World) -> None:
    async with world.client(world.make_app(login_tries_per_address=3)) as api:
        codes = [
            (await api.post("/v1/driver/login", json={"code": f"bad-{n}"})).status_code for n in range(4)
        ]
    assert codes == [401, 401, 401, 429]


async def test_one_account_is_limited_before_its_password_is_checked(world: World) -> None:
    async with world.client(world.make_app()) as api:
        codes = [(await _login(api, "not-a-login", "x")).status_code for _ in range(11)]
    assert codes == [401] * 10 + [429]


async def test_refresh_rotates_and_reuse_ends_the_family(world: World, api: httpx.AsyncClient) -> None:
    first = (await api.post("/v1/driver/login", json={"code": "ok-rotating"})).json()["refresh_token"]
    second = await _refresh(api, first)
    assert second.status_code == 200
    third = await _refresh(api, second.json()["refresh_token"])
    assert third.status_code == 200
    assert (await _refresh(api, first)).status_code == 401, "an old token came back: stolen"
    assert (await _refresh(api, third.json()["refresh_token"])).status_code == 401
    with world.session() as db:
        stored = [s.refresh_hash for s in db.exec(_all_sessions()).all()]
    assert first not in stored


def _all_sessions() -> Any:
    from sqlmodel import select

    return select(Session)


async def test_logout_ends_the_login(world: World, api: httpx.AsyncClient) -> None:
    token = (await _login(api, "admin-ST001")).json()["refresh_token"]
    answer = await api.post("/v1/session/logout", json={"refresh_token": token})
    assert answer.status_code == 204
    assert (await _refresh(api, token)).status_code == 401
    unknown = await api.post("/v1/session/logout", json={"refresh_token": "u" * 40})
    assert unknown.status_code == 204


async def test_a_dismissed_person_cannot_refresh(world: World, api: httpx.AsyncClient) -> None:
    token = (await _login(api, "operator-ST900")).json()["refresh_token"]
    with world.session() as db:
        db.get_one(Staff, world.staff_ids["operator-ST900"]).is_active = False
    assert (await _refresh(api, token)).status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "other"},
        {"iss": "other"},
        {"typ": "refresh"},
        {"role": "root"},
        {"exp": 1},
        {"nbf": 9_999_999_999},
        {"sub": "x"},
        {"jti": None},
        {"op": "OMIT"},
    ],
)
async def test_tokens_that_are_not_ours(world: World, api: httpx.AsyncClient, change: dict[str, Any]) -> None:
    good = world.as_staff("cashier")["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(good, options={"verify_signature": False}) | change
    claims = {k: v for k, v in claims.items() if v not in (None, "OMIT") or k in ("op", "st", "sc")}
    if change.get("op") == "OMIT":
        del claims["op"]
    forged = jwt.encode(claims, "j" * 40, algorithm="HS256")
    answer = await api.get("/v1/orders", headers={"Authorization": f"Bearer {forged}"})
    assert answer.status_code == 401


@pytest.mark.parametrize(("algorithm", "key"), [("none", ""), ("HS512", "j" * 64), ("HS256", "k" * 40)])
async def test_the_algorithm_and_key_are_ours(
    world: World, api: httpx.AsyncClient, algorithm: str, key: str
) -> None:
    good = world.as_staff("cashier")["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(good, options={"verify_signature": False})
    forged = jwt.encode(claims, key, algorithm=algorithm)
    answer = await api.get("/v1/orders", headers={"Authorization": f"Bearer {forged}"})
    assert answer.status_code == 401


async def test_access_tokens_end_after_fifteen_minutes(world: World, api: httpx.AsyncClient) -> None:
    headers = world.as_staff("cashier")
    assert (await api.get("/v1/orders", headers=headers)).status_code == 200
    world.clock.now += timedelta(minutes=15)
    assert (await api.get("/v1/orders", headers=headers)).status_code == 401
