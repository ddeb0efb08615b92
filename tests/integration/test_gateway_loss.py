"""The uplink over a bad network: datagrams lost, doubled, late, both ends restarted, the server away for long."""

import asyncio
import dataclasses
import random
from datetime import timedelta
from pathlib import Path

import aiocoap
import pytest

from contracts.station import EndReason, SaleRecord
from domain.quantity import Unit
from station_gateway.client.outbox import Outbox
from station_gateway.protocols.uplink.bodies import key_at_station, station_key
from tests.integration.gateway_support import STATION, Rig, eventually, now, running
from tests.integration.lossy_path import LossyPath


def sale(device: int, number: int) -> SaleRecord:
    return SaleRecord(
        natural_key=f"{STATION}-{device}-21-{number:04d}-{number * 1000}",
        station_code=STATION,
        node=device,
        fp=0x21,
        nozzle=1,
        sequence=number,
        unit=Unit.LITRE,
        quantity_milli=1_000 + number,
        amount_fen=735,
        price_fen_per_unit=735,
        end_reason=EndReason.NORMAL,
        recorded_at=now() - timedelta(hours=24) + timedelta(minutes=number),
        totaliser_before_milli=number * 1000,
        totaliser_after_milli=(number + 1) * 1000,
    )


async def lossy(rig: Rig, **rates: float) -> LossyPath:
    path = LossyPath(("127.0.0.1", rig.coap_port), seed=20_260_801, **rates)
    rig.uplink_port = await path.open()
    return path


@pytest.mark.feature("003-D2")
@pytest.mark.feature("003-D5")
@pytest.mark.feature("003-E1")
async def test_30_percent_loss_duplicates_reordering_and_restarts_of_both_ends(tmp_path: Path) -> None:
    rig = Rig(folder=tmp_path, nodes=3)
    path = await lossy(rig, loss=0.30, double=0.10, reorder=0.20)
    chance = random.Random(7)
    try:
        station = await rig.start_station()
        await rig.start_server()
        await rig.start_client()
        await rig.online()
        for number in range(30):
            node, fp = chance.randint(1, 3), chance.choice((0x21, 0x22))
            point = station.point(node, fp)
            await eventually(lambda: point.state.name == "IDLE" and not point.buffer.full, 30, "free point")  # noqa: B023
            before = len(rig.truth())
            rig.lift_and_fill(node, fp, 2, chance.randint(1, 30) * 100)
            await eventually(lambda: len(rig.truth()) > before, 30, f"fill {number}")  # noqa: B023
            if number in (8, 20):
                await rig.stop_server()
                await rig.start_server()
            if number in (13, 25):
                await rig.stop_client()
                await rig.start_client()
                await rig.online()
        await eventually(lambda: rig.landed() == rig.truth(), 60, "every sale once")
        assert len(rig.store.order) == 30
        assert path.lost > 10
        assert path.doubled > 0
        assert path.delayed > 0
    finally:
        await rig.stop()
        path.close()


@pytest.mark.feature("003-D5")
@pytest.mark.feature("003-D1")
async def test_20_percent_loss_5_percent_duplicates(tmp_path: Path) -> None:
    rig = Rig(folder=tmp_path, nodes=1)
    path = await lossy(rig, loss=0.20, double=0.05, reorder=0.10)
    try:
        outbox = Outbox(tmp_path / "data" / "outbox.sqlite3")
        for number in range(60):
            outbox.add_sale(sale(number % 4 + 1, number), now_ms=number)
        outbox.close()
        await rig.start_server()
        client = await rig.start_client()
        await eventually(lambda: len(rig.desk.sales) >= 60, 60, "all sales")
        await eventually(lambda: client.outbox.depth() == 0, 30, "all acknowledged")
        told = [key_at_station(one.natural_key) for one in rig.desk.sales]
        assert sorted(told) == sorted(rig.store.order)
        assert len(rig.desk.sales) == 60
    finally:
        await rig.stop()
        path.close()


@pytest.mark.feature("003-E1")
@pytest.mark.feature("003-D2")
async def test_24_hours_offline_drain_in_order_per_dispenser(tmp_path: Path) -> None:
    rig = Rig(folder=tmp_path, nodes=1)
    try:
        outbox = Outbox(tmp_path / "data" / "outbox.sqlite3")
        sent = [sale(number % 6 + 1, number) for number in range(480)]
        for number, one in enumerate(sent):
            assert outbox.add_sale(one, now_ms=number)
        outbox.close()
        client = await rig.start_client()
        await asyncio.sleep(0.3)
        assert client.outbox.depth() == 480
        await rig.start_server()
        await eventually(lambda: client.outbox.depth() == 0, 60, "drained")
        for device in range(1, 7):
            prefix = f"{STATION}-{device}-"
            expected = [one.natural_key for one in sent if one.natural_key.startswith(prefix)]
            assert [key for key in rig.store.order if key.startswith(prefix)] == expected
        expected_sales = [_as_told(one) for one in sent]
        assert sorted(rig.desk.sales, key=_sequence) == sorted(expected_sales, key=_sequence)
    finally:
        await rig.stop()


def _as_told(one: SaleRecord) -> SaleRecord:
    """Return a sale as the platform knows it: its key bound to the station, its time in milliseconds."""
    moment = one.recorded_at
    return dataclasses.replace(
        one,
        natural_key=station_key(STATION, one.natural_key),
        recorded_at=moment.replace(microsecond=moment.microsecond // 1000 * 1000),
    )


def _sequence(one: SaleRecord) -> int:
    return one.sequence


@pytest.mark.feature("003-E5")
async def test_tcp_is_the_option(tmp_path: Path) -> None:
    async with running(tmp_path, transport="tcp") as rig:
        rig.lift_and_fill(1, 0x21, 2, 3_000)
        await eventually(lambda: rig.desk.sales, what="the sale over coap+tcp")
        assert rig.landed() == rig.truth()


@pytest.mark.feature("003-E5")
async def test_unprotected_requests_are_refused(tmp_path: Path) -> None:
    rig = Rig(folder=tmp_path)
    try:
        await rig.start_server()
        stranger = await aiocoap.Context.create_client_context(transports=["udp6"])
        for path in ("e", "c"):
            body = b'{"e":[],"b":1,"n":0,"w":0}'
            uri = f"coap://127.0.0.1:{rig.coap_port}/{path}"
            answer = await stranger.request(
                aiocoap.Message(code=aiocoap.POST, uri=uri, payload=body)
            ).response
            assert answer.code is aiocoap.UNAUTHORIZED
        await stranger.shutdown()
        assert rig.store.order == []
    finally:
        await rig.stop()


@pytest.mark.feature("003-D5")
async def test_workflow_service_away_then_back(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.desk.away = True
        rig.lift_and_fill(1, 0x21, 2, 3_000)
        await eventually(lambda: rig.store.order, what="stored")
        await asyncio.sleep(0.5)
        assert rig.desk.sales == []
        rig.desk.away = False
        await eventually(lambda: len(rig.store.handled) == 1, what="told later")
        assert rig.landed() == rig.truth()


@pytest.mark.feature("003-D2")
async def test_crash_between_commit_and_signal_is_relayed(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.desk.away = True
        rig.lift_and_fill(1, 0x21, 2, 3_000)
        await eventually(lambda: rig.store.order, what="stored")
        await rig.stop_server()
        rig.desk.away = False
        await rig.start_server()
        await eventually(lambda: len(rig.store.handled) == 1, what="relayed by the next server")
        assert rig.landed() == rig.truth()
