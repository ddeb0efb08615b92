"""A slow host or a crowd at one door makes nobody else wait; a full lane says so at once."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI

from api.database import HOST_QUEUE, HOST_THREADS
from api.errors import ProblemError
from api.lanes import Lane
from tests.unit.api.fakes import FakeMiniProgram
from tests.unit.api.world import PASSWORD, World


class StuckMiniProgram(FakeMiniProgram):
    """A host that answers nobody until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def openid_of(self, code: str) -> str:
        self.free.wait(20)
        return super().openid_of(code)


@pytest.fixture
def host() -> Iterator[StuckMiniProgram]:
    """The mini-program host of `stuck`, let go at the end."""
    found = StuckMiniProgram()
    yield found
    found.free.set()


@pytest.fixture
def stuck(world: World, host: StuckMiniProgram) -> FastAPI:
    """An app whose mini-program host is stuck."""
    return world.make_app(mini_program=host)


async def _junk(api: httpx.AsyncClient, count: int) -> list[asyncio.Task[httpx.Response]]:
    sent = [
        asyncio.create_task(api.post("/v1/driver/login", json={"code": f"junk-{n}"})) for n in range(count)
    ]
    await asyncio.sleep(0.2)
    return sent


async def test_junk_logins_at_a_slow_host_stop_nobody_else(
    world: World, stuck: FastAPI, host: StuckMiniProgram
) -> None:
    note = {"id": "EV-L", "event_type": "TRANSACTION.SUCCESS", "out_trade_no": "P" + "Q" * 21 + "A001"}
    async with world.client(stuck) as api:
        logins = await _junk(api, 12)
        began = time.monotonic()
        listed = await api.get("/v1/cashier/unpaid", headers=world.as_staff())
        told = await api.post(
            "/v1/notify/wechat/pay",
            content=json.dumps({**note, "state": "SUCCESS"}),
            headers={"Wechatpay-Signature": "good"},
        )
        staff = await api.post("/v1/staff/login", json={"login": "admin-ST002", "password": PASSWORD})
        took_s = time.monotonic() - began
        assert not any(one.done() for one in logins), "the host is still stuck"
        host.free.set()
        assert {(await one).status_code for one in logins} == {401}
    assert (listed.status_code, told.status_code, staff.status_code) == (200, 204, 200)
    assert took_s < 2, f"others waited {took_s:.1f} s because of 12 junk logins"


async def test_more_logins_than_the_lane_holds_are_told_to_come_again(
    world: World, stuck: FastAPI, host: StuckMiniProgram
) -> None:
    places = HOST_THREADS + HOST_QUEUE
    async with world.client(stuck) as api:
        waiting = await _junk(api, places)
        refused = await api.post("/v1/driver/login", json={"code": "ok-late"})
        host.free.set()
        codes = [(await one).status_code for one in waiting]
        accepted = await api.post("/v1/driver/login", json={"code": "ok-late"})
    assert (refused.status_code, refused.json()["code"]) == (503, "try_again")
    assert int(refused.headers["Retry-After"]) >= 1
    assert codes == [401] * places
    assert accepted.status_code == 200, "the places are free again"


async def test_who_gives_up_frees_the_place_only_when_the_thread_is_free() -> None:
    lane, go = Lane("test", threads=1, queued=0), threading.Event()
    gone = asyncio.create_task(lane.call(lambda: go.wait(10)))
    await asyncio.sleep(0.05)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    with pytest.raises(ProblemError):
        await lane.call(lambda: None)
    go.set()
    for _ in range(100):
        await asyncio.sleep(0.01)
        try:
            assert await lane.call(lambda: 7) == 7
            break
        except ProblemError:
            continue
    else:
        pytest.fail("the place never came back")
    lane.close()


async def test_an_error_of_the_work_is_the_callers_and_frees_the_place() -> None:
    lane = Lane("test", threads=1, queued=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await lane.call(lambda: 1 // 0)
        await asyncio.sleep(0.05)
    lane.close()
