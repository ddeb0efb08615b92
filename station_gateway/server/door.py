"""Strangers stay outside: whoever names no enrolled station is answered 4.01 before anything is kept of them.

The library assembles blocks and remembers every request for minutes before any handler sees it. So the door stands
in front of it: on UDP before de-duplication, on TCP before the request is dispatched. Nothing here proves who
speaks; OSCORE does that behind the door.
"""

import asyncio
import socket
import time
from typing import Any

import aiocoap
import structlog
from aiocoap import error, oscore
from aiocoap.messagemanager import MessageManager
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from prometheus_client import Counter

from station_gateway.server.contexts import StationContexts
from station_gateway.server.rate import TokenBucket

log = structlog.get_logger(__name__)

REQUESTS = Counter("jiazhu_gateway_requests", "CoAP requests from stations", ["path", "result"])

MOST_MESSAGE = 2048
"""Bytes of one message over TCP; a body has at most 1000."""
MOST_REMEMBERED = 500_000
"""Requests that may be remembered for de-duplication (about four minutes each); beyond it new ones are dropped."""
_MOST_READ = 4096
"""Bytes taken from a TCP socket at once: cutting many tiny messages out of a long piece costs its length squared."""
_MOST_UNREAD = 32_768
_ANSWERS_PER_S = 100
SILENT_S = 30.0
_OUTSIDE = "outside"


class ProtectedSite(OscoreSiteWrapper):  # type: ignore[misc]
    """The library's OSCORE front without its other ways in: plain requests and key exchange."""

    async def render_to_pipe(self, pipe: Any) -> None:
        """Raises Unauthorized for everything that is not protected."""
        if pipe.request.opt.oscore is None or pipe.request.opt.uri_path:
            raise error.Unauthorized
        await super().render_to_pipe(pipe)


class Door:
    """Guards the sockets of one CoAP context."""

    def __init__(self, contexts: StationContexts, *, most_remembered: int = MOST_REMEMBERED) -> None:
        self._contexts = contexts
        self._most_remembered = most_remembered
        self._answers = TokenBucket(per_s=_ANSWERS_PER_S, most=_ANSWERS_PER_S, clock=time.monotonic)

    def guard(self, context: Any) -> None:
        """Stand in front of every socket that the context listens on."""
        for manager in context.request_interfaces:
            if isinstance(manager.token_interface, MessageManager):
                self._guard_datagrams(manager.token_interface)
            else:
                self._guard_connections(manager.token_interface)

    def names_a_station(self, request: Any) -> bool:
        """Return whether a request is protected under the key id of an enrolled station."""
        try:
            self._contexts.find_oscore(oscore.verify_start(request))
        except (KeyError, ValueError, IndexError):
            return False
        return True

    def _guard_datagrams(self, manager: Any) -> None:
        forward = manager.dispatch_message

        def dispatch(message: Any) -> None:
            if not message.code.is_request():
                forward(message)
            elif not self.names_a_station(message):
                REQUESTS.labels(_OUTSIDE, "unprotected").inc()
                if message.mtype is aiocoap.CON and not self._answers.take():
                    manager.message_interface.send(_refusal(message, _mtype=aiocoap.ACK, _mid=message.mid))
            elif len(manager._recent_messages) >= self._most_remembered:
                REQUESTS.labels(_OUTSIDE, "dropped").inc()
            else:
                forward(message)

        manager.dispatch_message = dispatch

    def _guard_connections(self, server: Any) -> None:
        forward = server._dispatch_incoming
        connections = _Connections(server._pool)

        def dispatch(connection: Any, message: Any) -> None:
            if not message.code.is_request():
                forward(connection, message)
            elif not self.names_a_station(message):
                REQUESTS.labels(_OUTSIDE, "unprotected").inc()
                connection._send_message(_refusal(message))
            else:
                connections.heard.add(connection)
                forward(connection, message)

        server._dispatch_incoming = dispatch
        server._pool = connections


class _Connections(set[Any]):
    """The library's pool of TCP connections; bounds what each of them may hold."""

    def __init__(self, connections: Any = ()) -> None:
        super().__init__(connections)
        self.heard: set[Any] = set()

    def add(self, connection: Any) -> None:
        """Bound a new connection: short messages, answers that are read, and a station that speaks soon."""
        super().add(connection)
        made = connection.connection_made

        def connection_made(transport: Any) -> None:
            transport.max_size = _MOST_READ
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_UNREAD)
            made(transport)

        connection.connection_made = connection_made
        connection.pause_writing = lambda: _hang_up(connection)
        connection._my_max_message_size = MOST_MESSAGE
        asyncio.get_running_loop().call_later(SILENT_S, self._hang_up_when_silent, connection)

    def remove(self, connection: Any) -> None:
        """Forget a connection that is closed."""
        super().remove(connection)
        self.heard.discard(connection)

    def _hang_up_when_silent(self, connection: Any) -> None:
        if connection in self and connection not in self.heard:
            _hang_up(connection)


def _hang_up(connection: Any) -> None:
    if connection._transport is not None:
        connection._transport.abort()


def _refusal(request: Any, **fields: Any) -> Any:
    answer = aiocoap.Message(code=aiocoap.UNAUTHORIZED, _token=request.token, **fields)
    answer.remote = request.remote.as_response_address()
    return answer
