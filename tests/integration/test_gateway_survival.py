"""One bad moment at the station - a full disk, a broken answer, a wrong clock - and everything goes on by itself."""

import asyncio
import sqlite3
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.station import CommandState
from station_gateway.client import health
from tests.integration.gateway_support import Rig, authorise_command, eventually, now, running


def fails_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> list[str]:
    """Let a method raise at its next call; return the list that says whether it has."""
    real, failed = getattr(owner, name), list[str]()

    def broken(*args: Any, **options: Any) -> Any:
        if not failed:
            failed.append(name)
            raise error
        return real(*args, **options)

    monkeypatch.setattr(owner, name, broken)
    return failed


def full() -> Exception:
    return sqlite3.OperationalError("database or disk is full")


def failures() -> float:
    return sum(
        sample.value for one in health.FAILURES.collect() for sample in one.samples if "_total" in sample.name
    )


@pytest.mark.feature("003-E1")
@pytest.mark.parametrize(
    "method",
    [
        "pending",
        "acknowledge",
        "count_attempt",
        "unreported",
        "mark_reported",
        "depth",
        "set_meter",
        "add_sale",
        "cleared",
    ],
)
async def test_a_full_disk_for_a_moment_ends_neither_a_dispenser_nor_the_uplink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async with running(tmp_path, nodes=1) as rig:
        assert rig.client is not None
        assert rig.hub is not None
        counted = failures()
        failed = fails_once(monkeypatch, rig.client.outbox, method, full())
        if method == "count_attempt":
            fails_once(monkeypatch, rig.client.uplink._poster, "post", RuntimeError("broken"))
        if method == "set_meter":
            _forget_totals(tmp_path)
            rig.client.driver.dispensers[1].link.close()
        rig.lift_and_fill(1, 0x21, 2, 10_000)
        await eventually(lambda: rig.desk.sales, what="the sale", within_s=20)
        await eventually(lambda: rig.client and all(p.ready for p in _points(rig)), what="online again")
        result = await rig.hub.send(authorise_command("P-ON"))
        assert result.state is CommandState.ACCEPTED
        rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: rig.landed() == rig.truth() and len(rig.truth()) == 2, what="both landed")
        await eventually(lambda: failed, what=f"{method} was broken")
        assert failures() > counted
        await eventually(lambda: rig.client and rig.client.outbox.depth() == 0, what="nothing waits")


def _forget_totals(folder: Path) -> None:
    with sqlite3.connect(folder / "data" / "outbox.sqlite3") as db:
        db.execute("DELETE FROM nozzle_meter")


def _points(rig: Rig) -> list[Any]:
    assert rig.client is not None
    return [point for one in rig.client.driver.dispensers.values() for point in one.points.values()]


async def test_a_command_that_cannot_be_recorded_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, nodes=1, hub_options={"redeliver_s": 0.3}) as rig:
        assert rig.client is not None
        assert rig.hub is not None
        failed = fails_once(monkeypatch, rig.client.outbox, "open_authorisation", full())
        assert (await rig.hub.send(authorise_command("P-AGAIN"))).state is CommandState.ACCEPTED
        assert failed
        rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: [s.order_no for s in rig.desk.sales] == ["P-AGAIN"], what="the sale")


@pytest.mark.feature("003-D4")
@pytest.mark.parametrize("minutes_wrong", [-30, 30])
async def test_a_station_whose_clock_is_wrong_serves_as_any_other(tmp_path: Path, minutes_wrong: int) -> None:
    async with running(tmp_path, nodes=1, hub_options={"margin": timedelta(seconds=1)}) as rig:
        assert rig.client is not None
        assert rig.hub is not None
        assert rig.station is not None

        def wrong() -> datetime:
            return now() + timedelta(minutes=minutes_wrong)

        rig.client.desk._now = wrong
        for point in _points(rig):
            point.now = wrong
        over = await rig.hub.send(authorise_command("P-OVER", expires_in_s=-20 * 60))
        if over.state is CommandState.UNKNOWN:
            await eventually(lambda: rig.desk.results, what="the edge's own verdict")
            over = rig.desk.results[0]
        assert over.state is CommandState.EXPIRED
        assert rig.station.point(1, 0x21).state.name == "IDLE"
        assert (await rig.hub.send(authorise_command("P-NOW"))).state is CommandState.ACCEPTED
        rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: [s.order_no for s in rig.desk.sales] == ["P-NOW"], what="the sale")


async def test_a_loop_that_breaks_is_started_again_after_a_growing_pause() -> None:
    runs: list[float] = []

    async def work() -> None:
        runs.append(asyncio.get_running_loop().time())
        raise RuntimeError("broken")

    counted = health.FAILURES.labels("a test")._value.get()
    task = asyncio.create_task(health.keep_running("a test", work, first_s=0.001, most_s=1.0))
    await eventually(lambda: len(runs) >= 4, what="four runs")
    task.cancel()
    assert health.FAILURES.labels("a test")._value.get() - counted >= 4
    assert [health.pause_s(n, 1.0, 60.0) for n in (0, 1, 2, 3, 99)] == [1.0, 1.0, 2.0, 4.0, 60.0]


def test_the_metrics_can_be_read_at_the_station() -> None:
    server = health.serve(0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
    for name in ("failures", "totaliser_gaps", "synthesised_sales", "clears_refused", "sales_waiting"):
        assert f"jiazhu_station_{name}" in text
