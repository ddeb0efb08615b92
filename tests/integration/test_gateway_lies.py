"""A station that lies: it reaches its own sales and nobody else's."""

import asyncio
import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.exceptions import WorkflowAlreadyStartedError

from contracts.fill import FillInput
from contracts.station import EndReason, SaleRecord
from domain.quantity import Unit
from station_gateway.protocols.uplink.bodies import events_body, sale_body
from station_gateway.server.inbox import SaleInbox
from station_gateway.server.workflows import TemporalDesk
from tests.integration.gateway_support import MemoryStore, eventually, now


def sale(station: str, key: str, amount_fen: int, **more: Any) -> SaleRecord:
    return SaleRecord(
        natural_key=key,
        station_code=station,
        node=1,
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
