"""The API's own socket: what asyncio makes of the connections that it accepts."""

import asyncio
import socket

import pytest

from api.main import listen

HOST = "127.0.0.1"


def test_an_answer_is_never_held_back_by_nagles_algorithm() -> None:
    """Head and body leave as two writes: with Nagle on, the second waits 40 ms for a delayed acknowledgement."""

    async def accepted_without_delay() -> int:
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[asyncio.BaseTransport] = loop.create_future()

        class Door(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.set_result(transport)

        server = await loop.create_server(Door, sock=listen(HOST, 0))
        async with server:
            port = server.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection(HOST, port)
            transport = await accepted
            found: int = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()
            transport.close()
        return found

    assert asyncio.run(accepted_without_delay()) != 0


def test_a_taken_address_is_an_error() -> None:
    with listen(HOST, 0) as first, pytest.raises(OSError, match="in use"):
        listen(HOST, first.getsockname()[1])
