"""Strangers and blocks: whoever is not enrolled leaves nothing behind, and nobody sends in blocks."""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import aiocoap
import pytest

from station_gateway.protocols.uplink import coap
from station_gateway.server import door
from station_gateway.server.site import CoapServer
from tests.integration.gateway_support import STATION, Rig, eventually


async def served(tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Rig, Any]:
    """Start a server and return it with its CoAP context, whose memory the tests look into."""
    opened: list[Any] = []
    init = CoapServer.__init__

    def keep(self: CoapServer, context: Any) -> None:
        opened.append(context)
        init(self, context)

    monkeypatch.setattr(CoapServer, "__init__", keep)
    rig = Rig(folder=tmp_path, transport=transport)
    await rig.start_server()
    return rig, opened[0]


def block(scheme: str, port: int, number: int, *, more: bool = True) -> aiocoap.Message:
    message = aiocoap.Message(
        code=aiocoap.POST, uri=f"{scheme}://127.0.0.1:{port}/e", payload=b"x" * (1024 if more else 8)
    )
    message.opt.block1 = (number, more, 6)
    return message


async def ask(client: Any, message: aiocoap.Message) -> Any:
    async with asyncio.timeout(5):
        return await client.request(message, handle_blockwise=False).response


def remembered(context: Any) -> int:
    """Return how many requests the server keeps for de-duplication or answers still."""
    managers = [one.token_interface for one in context.request_interfaces]
    kept = sum(len(one._recent_messages) for one in managers if hasattr(one, "_recent_messages"))
    return kept + sum(len(one.incoming_requests) for one in context.request_interfaces)


@pytest.mark.feature("003-E5")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_stranger_cannot_make_the_server_keep_anything(
    tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, context = await served(tmp_path, transport, monkeypatch)
    scheme = "coap+tcp" if transport == "tcp" else "coap"
    stranger = await aiocoap.Context.create_client_context(transports=coap.client_transports(transport)[1:])
    try:
        for number in range(30):
            answer = await ask(stranger, block(scheme, rig.coap_port, number))
            assert answer.code is aiocoap.UNAUTHORIZED
        assert remembered(context) == 0
        wrong_key = block(scheme, rig.coap_port, 0)
        wrong_key.opt.oscore = b"\x09\x00nobody"
        assert (await ask(stranger, wrong_key)).code is aiocoap.UNAUTHORIZED
        assert remembered(context) == 0
    finally:
        await stranger.shutdown()
        await rig.stop()


@pytest.mark.feature("003-E5")
async def test_a_flood_of_strangers_is_answered_only_so_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, context = await served(tmp_path, "udp", monkeypatch)
    answers: list[bytes] = []

    class Flood(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            answers.append(data)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Flood, remote_addr=("127.0.0.1", rig.coap_port))
    try:
        for number in range(400):
            transport.sendto(b"\x40\x02" + number.to_bytes(2, "big") + b"\xb1e\xffx")
            await asyncio.sleep(0)
        await eventually(lambda: len(answers) >= 100, what="the first are answered")
        await asyncio.sleep(0.2)
        assert len(answers) < 300
        assert max(map(len, answers)) <= 8
        assert remembered(context) == 0
    finally:
        transport.close()
        await rig.stop()


@pytest.mark.feature("003-E5")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_blocks_of_a_station_are_refused(
    tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, _ = await served(tmp_path, transport, monkeypatch)
    scheme = "coap+tcp" if transport == "tcp" else "coap"
    station = await aiocoap.Context.create_client_context(transports=coap.client_transports(transport))
    security = coap.load_context(tmp_path / "client", STATION)
    station.client_credentials["*"] = security
    try:
        for number in range(3):
            answer = await ask(station, block(scheme, rig.coap_port, number))
            assert answer.code is aiocoap.REQUEST_ENTITY_TOO_LARGE
        last = await ask(station, block(scheme, rig.coap_port, 3, more=False))
        assert last.code is aiocoap.REQUEST_ENTITY_TOO_LARGE
    finally:
        await coap.shutdown(station)
        coap.release_context(security)
        await rig.stop()


@pytest.mark.feature("003-E5")
async def test_tcp_strangers_cannot_announce_megabytes_nor_leave_answers_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, _ = await served(tmp_path, "tcp", monkeypatch)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.coap_port)
        writer.write(b"\x00\xe1" + b"\xf0" + (500_000).to_bytes(4, "big") + b"\x02")
        async with asyncio.timeout(5):
            assert b"large" in await reader.read()
        writer.close()
        loop = asyncio.get_running_loop()
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            await loop.sock_connect(raw, ("127.0.0.1", rig.coap_port))
            await loop.sock_sendall(raw, b"\x00\xe1")
            async with asyncio.timeout(20):
                with pytest.raises(ConnectionError):
                    await _ping_for_ever(loop, raw)
    finally:
        await rig.stop()


async def _ping_for_ever(loop: asyncio.AbstractEventLoop, raw: socket.socket) -> None:
    """Ask for answers and read none of them."""
    while True:
        await loop.sock_sendall(raw, b"\x08\xe2answered" * 1_000)


@pytest.mark.feature("003-E5")
async def test_tcp_connection_without_a_station_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "SILENT_S", 0.2)
    rig, _ = await served(tmp_path, "tcp", monkeypatch)
    try:
        await rig.start_client()
        assert rig.client is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.coap_port)
        writer.write(b"\x00\xe1")
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        await eventually(lambda: STATION in rig.store.links, what="the station is still heard")
    finally:
        await rig.stop()
