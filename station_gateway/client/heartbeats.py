"""UDP heartbeats: ours tells dispensers where to connect, theirs tell that they live and on which port.

A heartbeat is not authenticated, so it counts only from the address that the configuration names.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import structlog

from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.heartbeat import Heartbeat, decode_heartbeat, encode_heartbeat

log = structlog.get_logger(__name__)

Listener = Callable[[Heartbeat, tuple[str, int]], None]


class HeartbeatPort(asyncio.DatagramProtocol):
    """The controller's UDP socket."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.DatagramTransport | None = None
        self._beat = b""
        self._targets: Callable[[], list[tuple[str, int]]] = list
        self._interval_s = 10.0
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def bind(cls, host: str, port: int, listener: Listener) -> "HeartbeatPort":
        """Open the socket. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        _, self = await loop.create_datagram_endpoint(
            lambda: cls(listener), local_addr=(host, port), allow_broadcast=True
        )
        return self

    @property
    def port(self) -> int:
        """Return the port that the socket has."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Hand a heartbeat on; anything else is dropped."""
        try:
            beat = decode_heartbeat(data)
        except IfsfError:
            log.debug("ifsf.heartbeat.nonsense", peer=addr[0])
            return
        self._listener(beat, addr)

    def error_received(self, exc: Exception) -> None:
        """A target is not there (yet); heartbeats go on."""
        log.debug("ifsf.heartbeat.unreachable", error=str(exc))

    def announce(
        self, beat: Heartbeat, interval_s: float, targets: Callable[[], list[tuple[str, int]]]
    ) -> None:
        """Send our heartbeat to `targets()` now and every `interval_s` seconds."""
        self._beat, self._interval_s, self._targets = encode_heartbeat(beat), interval_s, targets
        self._tick()

    def _tick(self) -> None:
        for target in self._targets():
            self.send_to(target)
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._tick)

    def send_to(self, target: tuple[str, int]) -> None:
        """Send our heartbeat to one address."""
        if self._transport is not None and self._beat:
            self._transport.sendto(self._beat, target)

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
