"""The wire to one dispenser: a command connection, the connection back, answers matched by token.

Field practice at Chinese stations: the controller connects to the device and writes commands; the device
connects to the controller's port and answers there. Some answer on the command connection. Both are accepted.
A command without an answer means that the wire is not to be trusted: it is closed and everything is read again.
"""

import asyncio
import socket
from collections.abc import Callable

import structlog

from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.framing import Reassembler
from station_gateway.protocols.ifsf.messages import ACK_OK, Address, Message, MessageType, encode

log = structlog.get_logger(__name__)

_TOKENS = 31


class LinkError(Exception):
    """The dispenser is not connected, or did not answer in time; nothing is known about the command."""


class Wire(asyncio.Protocol):
    """One TCP connection, cut into messages."""

    def __init__(self, received: Callable[["Wire", Message], None], lost: Callable[["Wire"], None]) -> None:
        self._received, self._lost = received, lost
        self._cutter = Reassembler()
        self._transport: asyncio.Transport | None = None
        self.peer_ip = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Switch keepalive on: idle 30 s, interval 5 s, three probes."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.peer_ip = peer[0] if peer else ""
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def data_received(self, data: bytes) -> None:
        """Hand every finished message on; a stream that is not IFSF is closed."""
        try:
            for message in self._cutter.feed(data):
                self._received(self, message)
        except IfsfError as error:
            log.warning("ifsf.stream.broken", peer=self.peer_ip, error=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self._lost(self)

    def write(self, frame: bytes) -> None:
        """Send bytes; a connection that is going away swallows them."""
        if self._transport is not None:
            self._transport.write(frame)

    def close(self) -> None:
        """Drop the connection without waiting for the peer."""
        if self._transport is not None:
            self._transport.abort()


class DispenserLink:
    """Requests to one dispenser node and what it says by itself (`on_message`)."""

    def __init__(
        self,
        *,
        node: int,
        controller: Address,
        answer_timeout_s: float,
        on_message: Callable[[Message], None],
    ) -> None:
        self.address = Address(1, node)
        self._controller = controller
        self._timeout_s = answer_timeout_s
        self._on_message = on_message
        self._command: Wire | None = None
        self._back: Wire | None = None
        self._token = 0
        self._waiting: dict[int, tuple[int, asyncio.Future[Message]]] = {}
        self.closed = asyncio.Event()
        self.closed.set()

    async def open(self, ip: str, port: int) -> None:
        """Connect the command connection. Raises LinkError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                _, wire = await loop.create_connection(lambda: Wire(self.received, self._lost), ip, port)
        except (OSError, TimeoutError) as error:
            raise LinkError(f"cannot connect: {error}") from error
        self._command = wire
        self.closed.clear()

    def adopt(self, wire: Wire) -> None:
        """Take the device's connection back; the newest one counts."""
        if self._back is not None and self._back is not wire:
            self._back.close()
        self._back = wire

    def close(self) -> None:
        """Drop both connections and fail what waits."""
        command, back = self._command, self._back
        self._command = self._back = None
        for wire in (command, back):
            if wire is not None:
                wire.close()
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(LinkError("connection lost"))
        self.closed.set()

    def _lost(self, wire: Wire) -> None:
        if wire is self._command:
            self.close()

    def back_lost(self, wire: Wire) -> None:
        """The device's connection back is gone; without it unsolicited messages may be lost, so start over."""
        if wire is self._back:
            self.close()

    async def read(self, database: bytes, ids: bytes) -> Message:
        """Read data; the answer may be a refusal (type ACK). Raises LinkError."""
        return await self._request(MessageType.READ, database, ids=ids)

    async def write(self, database: bytes, *items: tuple[int, bytes]) -> Message:
        """Write data or commands and return the acknowledgement. Raises LinkError."""
        return await self._request(MessageType.WRITE, database, items=items)

    async def _request(
        self,
        kind: MessageType,
        database: bytes,
        *,
        ids: bytes = b"",
        items: tuple[tuple[int, bytes], ...] = (),
    ) -> Message:
        if self._command is None:
            raise LinkError("not connected")
        token = self._free_token()
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[token] = (database[0], future)
        request = Message(
            recipient=self.address,
            origin=self._controller,
            type=kind,
            token=token,
            database=database,
            ids=ids,
            items=items,
        )
        try:
            self._command.write(encode(request))
            async with asyncio.timeout(self._timeout_s):
                return await future
        except TimeoutError as error:
            log.warning("ifsf.no_answer", node=self.address.node, database=database.hex())
            self.close()
            raise LinkError("no answer") from error
        finally:
            del self._waiting[token]

    def _free_token(self) -> int:
        for _ in range(_TOKENS):
            self._token = self._token % _TOKENS + 1
            if self._token not in self._waiting:
                return self._token
        raise LinkError("all tokens wait for an answer")

    def received(self, wire: Wire, message: Message) -> None:
        """Match an answer with its request, acknowledge what wants it, hand the rest on."""
        if message.origin != self.address:
            log.warning("ifsf.wrong_origin", node=self.address.node, peer=wire.peer_ip)
            return
        if message.type in (MessageType.ANSWER, MessageType.ACK):
            first, future = self._waiting.get(message.token, (None, None))
            if future is not None and first == message.database[0] and not future.done():
                future.set_result(message)
            return
        if message.type is MessageType.UNSOLICITED_WITH_ACK:
            wire.write(
                encode(
                    Message(
                        recipient=message.origin,
                        origin=self._controller,
                        type=MessageType.ACK,
                        token=message.token,
                        database=message.database,
                        ack=ACK_OK,
                    )
                )
            )
        self._on_message(message)
