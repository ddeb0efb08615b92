"""Both programs as processes: ready lines, probes, clean ends, and kill -9 of the station client in mid-flight."""

import asyncio
import base64
import json
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from contracts.station import CommandState
from station_gateway.client.config import dump
from station_gateway.server.provision import provision
from tests.integration.gateway_support import Rig, authorise_command, eventually, free_udp_port

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 30


@asynccontextmanager
async def process(module: str, *arguments: str, **env: str) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """Run `python -m module` until its ready line; kill it at the end."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        cwd=ROOT,
        env=os.environ | env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            line = await child.stdout.readline()
        assert line, (await child.stderr.read()).decode()
        yield child, json.loads(line)
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGKILL)
        await child.communicate()


@pytest.mark.feature("003-E1")
async def test_client_killed_with_minus_9_at_random_moments(tmp_path: Path) -> None:
    rig = Rig(folder=tmp_path, nodes=2, station_options={"rate": 100})
    chance = random.Random(11)
    config = tmp_path / "client.json"
    try:
        station = await rig.start_station()
        await rig.start_server()
        config.write_text(dump(rig.client_config()), encoding="utf-8")
        for _ in range(5):
            async with process("station_gateway.client.main", "--config", str(config)) as (child, ready):
                assert ready["ready"] is True
                for _ in range(2):
                    node, fp = chance.randint(1, 2), chance.choice((0x21, 0x22))
                    rig.lift_and_fill(node, fp, 2, chance.randint(1, 20) * 100, timeout_ms=20_000)
                await asyncio.sleep(chance.uniform(0.1, 0.8))
                child.send_signal(signal.SIGKILL)
                await child.wait()
        async with process("station_gateway.client.main", "--config", str(config)) as (child, _):
            points = [station.point(node, fp) for node in (1, 2) for fp in (0x21, 0x22)]
            await eventually(
                lambda: all(one.nozzle_out is None and not one.buffer.unpaid for one in points),
                40,
                "all cleared",
            )
            await eventually(lambda: rig.landed() == rig.truth(), 20, "every sale once")
            assert len(rig.truth()) >= 5
            child.send_signal(signal.SIGTERM)
            async with asyncio.timeout(15):
                assert await child.wait() == 0
    finally:
        await rig.stop()


@pytest.mark.feature("003-E1")
async def test_prepaid_order_survives_kill_minus_9_of_the_client(tmp_path: Path) -> None:
    rig = Rig(folder=tmp_path, nodes=1, station_options={"rate": 30})
    config = tmp_path / "client.json"
    try:
        await rig.start_station()
        hub = await rig.start_server()
        config.write_text(dump(rig.client_config()), encoding="utf-8")
        async with process("station_gateway.client.main", "--config", str(config)) as (child, _):
            await eventually(lambda: len(rig.store.states) == 2, what="states")
            rows = rig.store.states
            await eventually(lambda: all(one["state"] == "idle" for one in rows.values()), what="idle")
            assert (await hub.send(authorise_command("P-KILL"))).state is CommandState.ACCEPTED
            rig.lift_and_fill(1, 0x21, 1, None)
            await asyncio.sleep(0.2)
            child.send_signal(signal.SIGKILL)
            await child.wait()
        async with process("station_gateway.client.main", "--config", str(config)):
            await eventually(lambda: rig.desk.sales, 20, "the sale")
            sale = rig.desk.sales[0]
            assert (sale.order_no, sale.amount_fen) == ("P-KILL", 5000)
    finally:
        await rig.stop()


async def test_client_refuses_a_wrong_configuration(tmp_path: Path) -> None:
    config = tmp_path / "client.json"
    config.write_text('{"station_code": "X"}', encoding="utf-8")
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "station_gateway.client.main",
        "--config",
        str(config),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        _, errors = await child.communicate()
    assert child.returncode == 2
    assert b"missing keys" in errors


@pytest.mark.feature("003-D3")
async def test_server_process_probes_and_clean_end(
    tmp_path: Path, fresh_database_url: str, temporal_client: Client
) -> None:
    provision(tmp_path / "oscore", tmp_path / "client", "ST01")
    address = temporal_client.service_client.config.target_host
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    env = {
        "DATABASE_URL": fresh_database_url,
        "TEMPORAL_ADDRESS": address,
        "JIAZHU_CODEC_KEYS": f"k1:{key}",
        "JIAZHU_GATEWAY_OSCORE_FOLDER": str(tmp_path / "oscore"),
        "JIAZHU_GATEWAY_COAP_PORT": str(free_udp_port()),
        "JIAZHU_GATEWAY_SHARD": "7",
        "JIAZHU_GATEWAY_PROBE_PORT": "0",
    }
    async with process("station_gateway.server.main", **env) as (child, ready):
        assert (ready["ready"], ready["stations"]) == (True, 1)
        base = f"http://127.0.0.1:{ready['probe_port']}"
        async with httpx.AsyncClient(base_url=base) as http:
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/readyz")).status_code == 200
            assert "jiazhu_gateway_commands" in (await http.get("/metrics")).text
        child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await child.wait() == 0


async def test_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        rig = Rig(folder=tmp_path)
        rig.heartbeat_port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await rig.start_client()
        await rig.stop()
