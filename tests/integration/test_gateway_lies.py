"""A station that lies: it reaches its own sales and nobody else's."""

import asyncio
import dataclasses
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from temporalio.exceptions import WorkflowAlreadyStartedError

from contracts.fill import FillInput
from contracts.station import CommandResult, CommandState, EndReason, SaleRecord
from db.repositories.gateway import StoredMessage
from domain.quantity import Unit
from station_gateway.client.outbox import Outbox
from station_gateway.protocols.uplink.bodies import events_body, exchange_body, result_body, sale_body
from station_gateway.server.hub import CommandHub
from station_gateway.server.inbox import SaleInbox
from station_gateway.server.rate import OverLimitError
from station_gateway.server.workflows import TemporalDesk
from tests.integration.gateway_support import (
    STATION,
    MemoryDesk,
    MemoryStore,
    Rig,
    authorise_command,
    eventually,
    now,
)


def sale(station: str, key: str, amount_fen: int, **more: Any) -> SaleRecord:
    node = more.pop("node", 1)
    return SaleRecord(
        natural_key=key,
        station_code=station,
        node=node,
        fp=0x21,
        nozzle=1,
        sequence=7,
        unit=Unit.LITRE,
        quantity_milli=amount_fen * 1000 // 735,
        amount_fen=amount_fen,
        price_fen_per_unit=735,
        end_reason=EndReason.NORMAL,
        recorded_at=datetime(2026, 5, 1, tzinfo=UTC),
        **more,
    )


class Workflows:
    """A workflow service that keeps one workflow for an id, as REJECT_DUPLICATE does."""

    def __init__(self) -> None:
        self.started: dict[str, FillInput] = {}

    async def start_workflow(self, name: str, arg: FillInput, *, id: str, **_: Any) -> None:
        if id in self.started:
            raise WorkflowAlreadyStartedError(id, name)
        self.started[id] = arg


@pytest.mark.feature("003-E5")
async def test_a_station_cannot_take_another_stations_natural_key() -> None:
    honest = sale("VICTIM", "VICTIM-1-21-0007-123456", 30_000)
    lie = dataclasses.replace(honest, amount_fen=1, quantity_milli=1)
    store, workflows = MemoryStore(), Workflows()
    desk = TemporalDesk(workflows, lambda code: "OP")  # type: ignore[arg-type]
    inbox = SaleInbox(store, desk, stations=lambda: ["VICTIM", "LIAR"], now=now)
    for station, told in (("LIAR", lie), ("VICTIM", honest), ("VICTIM", honest)):
        await inbox.take(station, events_body([sale_body(told)], []))
        await asyncio.sleep(0)
    await eventually(lambda: len(workflows.started) == 2, what="an order of each station")
    await inbox.stop()
    sales = [one.sale for one in workflows.started.values() if one.sale]
    assert sorted((one.station_code, one.amount_fen) for one in sales) == [("LIAR", 1), ("VICTIM", 30_000)]
    assert len(store.handled) == 2


@pytest.mark.feature("003-E5")
async def test_a_sale_that_cannot_be_read_is_kept_and_counted() -> None:
    store, desk = MemoryStore(), MemoryDesk()
    inbox = SaleInbox(store, desk, stations=lambda: ["ST"], now=now, relay_every_s=0.05)
    good = sale_body(sale("ST", "ST-1", 735))
    before = malformed("ST")
    with capture_logs() as logs:
        await inbox.take("ST", events_body([good, '{"k":"ST-2","a":"much"}', '"\\ud800"'], []))
        await eventually(lambda: len(store.handled) == 3, what="all three are done with")
        await inbox.take("ST", events_body(['{"k":"ST-2","a":"much"}'], []))
    assert sorted(store.handled.values()) == ["malformed", "malformed", "started"]
    assert malformed("ST") - before == 2
    said = [one["external_id"] for one in logs if one["event"] == "gateway.sale.malformed"]
    kept = [one for one in store.messages.values() if one.kind == "malformed"]
    assert sorted(said) == sorted(one.external_id for one in kept)
    assert any("much" in one.body for one in kept)
    await inbox.stop()


async def test_a_stored_sale_that_is_no_longer_readable_does_not_hold_up_the_others() -> None:
    store, desk = MemoryStore(), MemoryDesk()
    rows = [("old", "{}"), ("fine", sale_body(sale("ST", "fine", 735)))]
    store.store_messages(
        [
            StoredMessage(source="station:ST", external_id=key, kind="sale", business_no="", body=body)
            for key, body in rows
        ],
        now() - timedelta(hours=1),
    )
    inbox = SaleInbox(store, desk, stations=lambda: ["ST"], now=now, relay_every_s=0.05)
    inbox.start()
    await eventually(lambda: len(store.handled) == 2, what="both are done with")
    await inbox.stop()
    assert store.handled == {("station:ST", "old"): "malformed", ("station:ST", "fine"): "started"}


def malformed(station: str) -> float:
    return REGISTRY.get_sample_value("jiazhu_gateway_sales_malformed_total", {"station": station}) or 0.0


@pytest.mark.feature("003-D4")
async def test_a_verdict_that_meets_the_timeout_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    store, desk = MemoryStore(), MemoryDesk()
    commit = store.store_results

    def slowly(*arguments: Any) -> None:
        time.sleep(0.3)
        commit(*arguments)

    monkeypatch.setattr(store, "store_results", slowly)
    hub = CommandHub(store, desk, now=now, margin=timedelta(seconds=0.2), relay_every_s=0.05)
    hub.start()
    try:
        command = authorise_command("P-RACE", expires_in_s=0.0)
        waiting = asyncio.create_task(hub.send(command))
        await asyncio.sleep(0.1)
        verdict = CommandResult(command_id=command.command_id, order_no="P-RACE", state=CommandState.ACCEPTED)
        await hub.exchange(STATION, exchange_body(1, 0, [result_body(verdict)], 0))
        heard = [await waiting, *desk.results]
        assert CommandState.ACCEPTED in [one.state for one in heard]
    finally:
        await hub.stop()


async def test_a_station_cannot_answer_another_stations_command() -> None:
    store, desk = MemoryStore(), MemoryDesk()
    hub = CommandHub(store, desk, now=now, margin=timedelta(seconds=0.1))
    command = authorise_command("P-MINE", expires_in_s=0.2)
    waiting = asyncio.create_task(hub.send(command))
    await asyncio.sleep(0)
    lie = CommandResult(command_id=command.command_id, order_no="P-MINE", state=CommandState.ACCEPTED)
    await hub.exchange("LIAR", exchange_body(1, 0, [result_body(lie)], 0))
    assert (await waiting).state is CommandState.UNKNOWN


@pytest.mark.feature("003-D2")
@pytest.mark.feature("003-E1")
async def test_a_backlog_beyond_the_limit_drains_without_losing_a_sale(tmp_path: Path) -> None:
    limits = {"sales_per_minute": 30_000, "sales_burst": 300}
    rig = Rig(folder=tmp_path, nodes=1, inbox_options=limits)
    try:
        outbox = Outbox(tmp_path / "data" / "outbox.sqlite3")
        keys = [f"{STATION}-{number}" for number in range(1_000)]
        for number, key in enumerate(keys):
            outbox.add_sale(sale(STATION, key, 735, node=number % 6 + 1), now_ms=number)
        outbox.close()
        limited = requests("limited")
        await rig.start_server()
        client = await rig.start_client()
        await eventually(lambda: client.outbox.depth() == 0, 60, "drained")
        await eventually(lambda: len(rig.desk.sales) == 1_000, 20, "told")
        assert sorted(rig.store.order) == sorted(keys)
        assert requests("limited") > limited
    finally:
        await rig.stop()


def requests(result: str) -> float:
    labels = {"path": "e", "result": result}
    return REGISTRY.get_sample_value("jiazhu_gateway_requests_total", labels) or 0.0


async def test_over_the_limit_a_station_is_told_when_to_come_again() -> None:
    inbox = SaleInbox(MemoryStore(), MemoryDesk(), stations=list, now=now, sales_per_minute=60, sales_burst=2)
    for key in ("1", "2"):
        await inbox.take("ST", events_body([sale_body(sale("ST", key, 735))], []))
    with pytest.raises(OverLimitError) as refused:
        await inbox.take("ST", events_body([sale_body(sale("ST", "3", 735))], []))
    assert 0.5 < refused.value.retry_s <= 1.0
    await inbox.take("OTHER", events_body([sale_body(sale("OTHER", "3", 735))], []))
    await inbox.take("ST", events_body([], []))
    await inbox.stop()
