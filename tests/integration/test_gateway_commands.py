"""Commands to the station: executed once, refused when late, and answered even when nobody waits any more."""

import asyncio
import dataclasses
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.station import CommandState, EndReason, StopCommand
from domain.ids import stop_command_id
from station_gateway.client.link import LinkError
from station_gateway.protocols.ifsf.messages import Message
from tests.integration.gateway_support import STATION, Rig, authorise_command, eventually, now, running


def stop_command(order_no: str) -> StopCommand:
    return StopCommand(
        command_id=stop_command_id(order_no),
        order_no=order_no,
        station_code=STATION,
        node=1,
        fp=0x21,
        expires_at=now() + timedelta(seconds=10),
    )


@pytest.mark.feature("003-D4")
async def test_duplicate_command_gets_the_same_result_and_releases_once(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.client is not None
        command = authorise_command("P-DUP")
        first, second = await asyncio.gather(rig.hub.send(command), rig.client.desk.take(command))
        assert first == second
        assert await rig.client.desk.take(command) == first
        assert await rig.hub.send(command) == first
        rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: rig.desk.sales, what="one sale")
        again = await rig.client.desk.take(command)
        assert again == first
        assert rig.station is not None
        assert rig.station.point(1, 0x21).state.name == "IDLE"


@pytest.mark.feature("003-D4")
async def test_expired_authorise_is_refused_at_the_edge(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.station is not None
        result = await rig.hub.send(authorise_command("P-OLD", expires_in_s=-0.001))
        assert (result.state, result.code) == (CommandState.EXPIRED, "EXPIRED")
        assert rig.station.point(1, 0x21).state.name == "IDLE"


@pytest.mark.feature("003-D4")
async def test_a_slow_station_clock_does_not_open_a_pump_for_an_old_order(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.client is not None
        assert rig.station is not None

        def slow() -> datetime:
            return now() - timedelta(minutes=30)

        rig.client.desk._now = slow
        for node in (1, 2):
            for fp in (0x21, 0x22):
                point = rig.client.driver.point(node, fp)
                assert point is not None
                point.now = slow
        result = await rig.hub.send(authorise_command("P-20MIN", expires_in_s=-20 * 60))
        if result.state is CommandState.UNKNOWN:
            await eventually(lambda: rig.desk.results, what="the edge's own verdict")
            result = rig.desk.results[0]
        assert result.state is CommandState.EXPIRED
        assert rig.station.point(1, 0x21).state.name == "IDLE"


@pytest.mark.feature("003-D4")
async def test_command_that_waited_in_the_queue_expires_and_the_order_is_told(tmp_path: Path) -> None:
    rig = Rig(folder=tmp_path, hub_options={"margin": timedelta(seconds=0.1)})
    try:
        await rig.start_station()
        hub = await rig.start_server()
        result = await hub.send(authorise_command("P-LATE", expires_in_s=0.2))
        assert (result.state, result.code) == (CommandState.UNKNOWN, "NO_ANSWER")
        await rig.start_client()
        await eventually(lambda: rig.desk.results, what="the edge's own verdict")
        assert (rig.desk.results[0].state, rig.desk.results[0].order_no) == (CommandState.EXPIRED, "P-LATE")
        assert rig.station is not None
        assert rig.station.point(1, 0x21).state.name == "IDLE"
        late = await hub.send(authorise_command("P-LATE"))
        assert late.state is CommandState.EXPIRED
    finally:
        await rig.stop()


async def test_a_command_of_an_earlier_server_is_delivered_by_the_next_one(tmp_path: Path) -> None:
    rig = Rig(folder=tmp_path)
    try:
        await rig.start_station()
        hub = await rig.start_server()
        waiting = asyncio.create_task(hub.send(authorise_command("P-NEXT", expires_in_s=30)))
        await eventually(lambda: rig.store.commands, what="the command is stored")
        waiting.cancel()
        await rig.stop_server()
        await rig.start_client()
        await rig.online()
        await rig.start_server()
        assert rig.hub is not None
        result = await rig.hub.send(authorise_command("P-NEXT", expires_in_s=30))
        assert result.state is CommandState.ACCEPTED
        assert rig.station is not None
        assert rig.station.point(1, 0x21).state.name == "AUTHORISED"
    finally:
        await rig.stop()


@pytest.mark.feature("003-D4")
@pytest.mark.parametrize(("asked", "hold_s"), [(True, 20.0), (False, 3.0)])
async def test_the_next_server_is_polled_soon(tmp_path: Path, asked: bool, hold_s: float) -> None:
    """A server that is asked to end answers its polls; of one that was killed they are given up after their time."""
    async with running(tmp_path, client_options={"poll_hold_s": hold_s}) as rig:
        first = rig.hub
        assert first is not None
        await eventually(lambda: first._session(STATION).waiter, what="an open poll")
        await asyncio.sleep(0.3)  # the server has acknowledged the poll by now
        await (rig.end_server() if asked else rig.stop_server())
        hub = await rig.start_server()
        async with asyncio.timeout(hold_s / 2 if asked else hold_s + 3):
            result = await hub.send(authorise_command("P-AFTER", expires_in_s=30))
        assert result.state is CommandState.ACCEPTED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"price_fen_per_unit": 736}, "PRICE_MISMATCH"),
        ({"nozzle": 5}, "NOZZLE_UNKNOWN"),
        ({"node": 9}, "NOZZLE_UNKNOWN"),
    ],
)
async def test_refusals_that_change_nothing(tmp_path: Path, change: dict[str, int], code: str) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.station is not None
        command = dataclasses.replace(authorise_command("P-NO"), **change)  # type: ignore[arg-type]
        result = await rig.hub.send(command)
        assert (result.state, result.code) == (CommandState.REFUSED, code)
        assert rig.station.point(1, 0x21).state.name == "IDLE"
        assert rig.client is not None
        assert rig.client.outbox.authorisations() == []


async def test_busy_closed_and_device_refusals(tmp_path: Path) -> None:
    async with running(tmp_path, client_options={"open_points": False}) as rig:
        assert rig.hub is not None
        assert rig.station is not None
        rig.inflict(1, kind="command_refused", fp=0x21)
        refused = await rig.hub.send(authorise_command("P-DEV"))
        assert (refused.state, refused.code) == (CommandState.REFUSED, "DEVICE_REFUSED")
        assert (await rig.hub.send(authorise_command("P-YES"))).state is CommandState.ACCEPTED
        busy = await rig.hub.send(authorise_command("P-SECOND"))
        assert (busy.state, busy.code) == (CommandState.REFUSED, "FP_BUSY")


@pytest.mark.feature("003-D4")
async def test_stop_before_flow_ends_the_order_without_fuel(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.station is not None
        assert (await rig.hub.send(authorise_command("P-STOP"))).state is CommandState.ACCEPTED
        result = await rig.hub.send(stop_command("P-STOP"))
        assert result.state is CommandState.ACCEPTED
        assert rig.station.point(1, 0x21).state.name == "IDLE"
        await eventually(lambda: rig.desk.sales, what="the zero sale")
        sale = rig.desk.sales[0]
        assert (sale.order_no, sale.quantity_milli, sale.end_reason) == ("P-STOP", 0, EndReason.ZERO)
        again = await rig.hub.send(dataclasses.replace(stop_command("P-STOP"), command_id="stop-again"))
        assert (again.state, again.code) == (CommandState.REFUSED, "NOT_AUTHORISED")


async def test_stop_after_the_fill_is_no_stop_before_fuel(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.client is not None
        assert (await rig.hub.send(authorise_command("P-SOLD"))).state is CommandState.ACCEPTED
        rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: rig.client and rig.client.outbox.has_fuel_of("P-SOLD"), what="the sale")
        result = await rig.hub.send(stop_command("P-SOLD"))
        assert (result.state, result.code) == (CommandState.REFUSED, "FUELLING")


@pytest.mark.feature("003-D4")
async def test_command_cut_off_by_a_crash_never_expires_while_the_pump_is_open(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.client is not None
        command = authorise_command("P-CUT")
        assert (await rig.hub.send(command)).state is CommandState.ACCEPTED
        with sqlite3.connect(tmp_path / "data" / "outbox.sqlite3") as db:
            db.execute("DELETE FROM result")
        late = dataclasses.replace(command, expires_at=now() - timedelta(seconds=1))
        assert (await rig.client.desk.take(late)).state is CommandState.ACCEPTED


async def test_stop_while_fuel_flows_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, station_options={"rate": 20}) as rig:
        assert rig.hub is not None
        assert rig.client is not None
        assert (await rig.hub.send(authorise_command("P-FLOW"))).state is CommandState.ACCEPTED
        rig.lift_and_fill(1, 0x21, 1, None)
        point = rig.client.driver.point(1, 0x21)
        assert point is not None
        await eventually(lambda: point.state.value == "fuelling", what="fuel flows")
        result = await rig.hub.send(stop_command("P-FLOW"))
        assert (result.state, result.code) == (CommandState.REFUSED, "FUELLING")
        await eventually(lambda: rig.desk.sales, what="the sale", within_s=15)
        assert rig.desk.sales[0].amount_fen == 5000
        assert rig.landed() == rig.truth()


@pytest.mark.feature("003-D1")
async def test_live_view_shows_state_and_running_values(tmp_path: Path) -> None:
    async with running(tmp_path, station_options={"rate": 20}) as rig:
        states = rig.store.states
        await eventually(lambda: [one["state"] for one in states.values()] == ["idle"] * 4, what="all idle")
        rig.lift_and_fill(1, 0x22, 2, 20_000)

        def running_row() -> dict[str, Any]:
            return rig.store.states[STATION, 1, 0x22]

        await eventually(lambda: running_row()["running_quantity_milli"], what="running values")
        assert (running_row()["state"], running_row()["nozzle"]) == ("fuelling", 2)
        await eventually(lambda: running_row()["state"] == "idle", what="idle again")
        assert rig.store.links[STATION].station_code == STATION


@pytest.mark.feature("003-D4")
@pytest.mark.parametrize("reached", [True, False])
async def test_release_without_an_answer_is_found_out_after_the_reconnect(
    tmp_path: Path, reached: bool
) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.client is not None
        assert rig.station is not None
        point = rig.client.driver.point(1, 0x21)
        assert point is not None
        write = point.link.write

        async def lose(database: bytes, *items: tuple[int, bytes]) -> Message:
            point.link.write = write  # type: ignore[method-assign]
            if reached:
                await write(database, *items)
            point.link.close()
            raise LinkError("no answer")

        point.link.write = lose  # type: ignore[method-assign]
        result = await rig.hub.send(authorise_command("P-GUESS"))
        assert (result.state, result.code) == (CommandState.UNKNOWN, "NO_ANSWER")
        await eventually(lambda: rig.desk.results, what="the verdict comes late")
        assert rig.desk.results[-1].state is CommandState.ACCEPTED
        if reached:
            rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: rig.desk.sales, what="the sale")
        sale = rig.desk.sales[0]
        assert (sale.order_no, sale.amount_fen) == ("P-GUESS", 5000 if reached else 0)
        assert rig.landed() == rig.truth()


async def test_commands_survive_a_client_that_restarts_before_answering(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.client is not None
        opened = await rig.hub.send(authorise_command("P-ONCE"))
        assert opened.state is CommandState.ACCEPTED
        rig.client.outbox.report_again("auth-P-ONCE")
        await rig.stop_client()
        await rig.start_client()
        await rig.online()
        again = await rig.hub.send(authorise_command("P-ONCE"))
        assert again == opened
        rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: rig.desk.sales, what="the sale")
        assert rig.landed() == rig.truth()
