"""The CoAP face of the gateway server: POST `e` (sales, states) and POST `c` (results up, commands down).

OSCORE does not refuse plain requests by itself: `door` does, and every handler asks again who is speaking before
it reads anything. Bodies are one message; a request in blocks is refused, so that nothing has to be assembled.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import aiocoap
import structlog
from aiocoap import error, resource
from sqlalchemy.exc import SQLAlchemyError

from station_gateway.protocols.uplink import coap
from station_gateway.protocols.uplink.bodies import COMMANDS_PATH, EVENTS_PATH, BodyError
from station_gateway.server.contexts import StationContexts
from station_gateway.server.door import MOST_MESSAGE, REQUESTS, Door, ProtectedSite
from station_gateway.server.hub import CommandHub, HubStoppedError
from station_gateway.server.inbox import SaleInbox
from station_gateway.server.rate import OverLimitError

log = structlog.get_logger(__name__)

Handler = Callable[[str, bytes], Awaitable[bytes]]


class StationResource(resource.Resource):  # type: ignore[misc]
    """One path; only enrolled stations are heard."""

    def __init__(self, path: str, handler: Handler, tuning: Any) -> None:
        super().__init__()
        self._path = path
        self._handler = handler
        self._tuning = tuning

    async def needs_blockwise_assembly(self, request: Any) -> bool:
        """Never: a body fits one message."""
        return False

    async def render_post(self, request: Any) -> Any:
        """Answer 4.01 to strangers, 4.13 to blocks, 4.00 to nonsense, 5.03 while the database is away or over the limit."""
        claims = request.remote.authenticated_claims
        if not claims:
            REQUESTS.labels(self._path, "unprotected").inc()
            raise error.Unauthorized
        if request.opt.block1 is not None or len(request.payload) > MOST_MESSAGE:
            REQUESTS.labels(self._path, "too_large").inc()
            raise error.RequestEntityTooLarge
        try:
            answer = await self._handler(claims[0], bytes(request.payload))
        except BodyError as problem:
            REQUESTS.labels(self._path, "malformed").inc()
            log.warning("gateway.request.malformed", station=claims[0], path=self._path, error=str(problem))
            raise error.BadRequest from problem
        except OverLimitError as problem:
            REQUESTS.labels(self._path, "limited").inc()
            log.warning("gateway.station.limited", station=claims[0], retry_s=problem.retry_s)
            return aiocoap.Message(code=aiocoap.SERVICE_UNAVAILABLE, max_age=math.ceil(problem.retry_s))
        except HubStoppedError as problem:
            REQUESTS.labels(self._path, "stopping").inc()
            raise error.ServiceUnavailable from problem
        except SQLAlchemyError as problem:
            REQUESTS.labels(self._path, "unavailable").inc()
            log.error("gateway.database.unavailable", error=type(problem).__name__)
            raise error.ServiceUnavailable from problem
        REQUESTS.labels(self._path, "ok").inc()
        return aiocoap.Message(code=aiocoap.CHANGED, payload=answer, transport_tuning=self._tuning)


class CoapServer:
    """Sockets and resources; UDP always, TCP on the same port number when asked for."""

    def __init__(self, context: Any) -> None:
        self._context = context

    @classmethod
    async def open(
        cls,
        *,
        host: str,
        port: int,
        tcp: bool,
        contexts: StationContexts,
        hub: CommandHub,
        inbox: SaleInbox,
        ack_timeout_s: float = 1.0,
    ) -> "CoapServer":
        """Bind and serve. Raises OSError when the port is taken."""
        coap.quiet()
        tuning = coap.tuning(ack_timeout_s=ack_timeout_s, max_retransmit=4)

        async def events(station_code: str, body: bytes) -> bytes:
            await inbox.take(station_code, body)
            return b""

        site = resource.Site()
        site.add_resource([EVENTS_PATH], StationResource(EVENTS_PATH, events, tuning))
        site.add_resource([COMMANDS_PATH], StationResource(COMMANDS_PATH, hub.exchange, tuning))
        context = await aiocoap.Context.create_server_context(
            ProtectedSite(site, contexts),
            bind=(host, port),
            server_credentials=contexts,
            transports=coap.server_transports(tcp=tcp),
        )
        Door(contexts).guard(context)
        return cls(context)

    async def close(self) -> None:
        """Close the sockets."""
        await coap.shutdown(self._context)
