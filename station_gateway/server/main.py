"""The gateway server's process: `python -m station_gateway.server.main`, settings from the environment.

It serves the stations of one shard and polls the dispenser activities' task queue of that shard, so that
nothing else needs to reach a station.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from temporalio.client import Client
from temporalio.worker import Worker

from activities.dispensers import DispenserActivities
from config import logging as log_config
from config.metrics import ProbeServer
from config.settings import Role, Settings, SettingsError, load
from config.temporal import connect
from contracts.names import gateway_task_queue
from db.repositories.gateway import GatewayRepository
from db.session import make_engine
from station_gateway.server.contexts import StationContexts
from station_gateway.server.hub import CommandHub
from station_gateway.server.inbox import SaleInbox
from station_gateway.server.site import CoapServer
from station_gateway.server.workflows import TemporalDesk

log = structlog.get_logger(__name__)

_MOST_COMMANDS = 500
_POLLERS = 2
_CLOSING_S = 0.3
"""How long the answers of ended polls have to leave before the sockets close."""


def _now() -> datetime:
    return datetime.now(tz=UTC)


@dataclass(slots=True, kw_only=True)
class GatewayServer:
    """Hub, inbox, CoAP sockets and activity worker of one shard."""

    hub: CommandHub
    inbox: SaleInbox
    contexts: StationContexts
    coap: CoapServer
    worker: Worker

    @classmethod
    async def open(cls, settings: Settings, client: Client, store: GatewayRepository) -> "GatewayServer":
        """Wire everything and bind the CoAP port. Raises OSError when it is taken."""
        assert settings.gateway_oscore_folder is not None
        contexts = StationContexts(Path(settings.gateway_oscore_folder))
        desk = TemporalDesk(client, store.operator_of)
        hub = CommandHub(store, desk, now=_now)
        inbox = SaleInbox(
            store,
            desk,
            stations=lambda: contexts.stations,
            now=_now,
            sales_per_minute=settings.gateway_sales_per_minute,
            sales_burst=settings.gateway_sales_burst,
        )
        coap = await CoapServer.open(
            host=settings.gateway_coap_host,
            port=settings.gateway_coap_port,
            tcp=settings.gateway_coap_tcp,
            contexts=contexts,
            hub=hub,
            inbox=inbox,
        )
        activities = DispenserActivities(hub)
        worker = Worker(
            client,
            task_queue=gateway_task_queue(settings.gateway_shard),
            activities=[activities.authorise, activities.stop],
            max_concurrent_activities=_MOST_COMMANDS,
            max_concurrent_activity_task_polls=_POLLERS,
        )
        return cls(hub=hub, inbox=inbox, contexts=contexts, coap=coap, worker=worker)

    async def run(self, until: Callable[[], Awaitable[object]]) -> None:
        """Serve until the awaited thing happens; then finish what runs."""
        self.hub.start()
        self.inbox.start()
        try:
            async with self.worker:
                await until()
        finally:
            await self.hub.stop()
            await asyncio.sleep(_CLOSING_S)
            await self.coap.close()
            await self.inbox.stop()
            self.contexts.close()


def _says_ready(settings: Settings, server: GatewayServer, probe_port: int) -> None:
    ready = {
        "ready": True,
        "service": "gateway",
        "shard": settings.gateway_shard,
        "coap": f"{settings.gateway_coap_host}:{settings.gateway_coap_port}",
        "stations": len(server.contexts.stations),
        "probe_port": probe_port,
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises SettingsError, OSError."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    engine = make_engine(
        settings.require_database_url(), pool_size=settings.database_pool_size, application_name="gateway"
    )
    store = GatewayRepository(engine)
    running = False
    probes = ProbeServer(settings.probe_host, settings.gateway_probe_port, lambda: running)
    probes.start()
    try:
        client = await connect(settings, identity=f"gateway-{settings.gateway_shard}")
        server = await GatewayServer.open(settings, client, store)

        async def until() -> None:
            nonlocal running
            await asyncio.to_thread(store.ping)
            running = True
            _says_ready(settings, server, probes.port)
            await stopping.wait()
            running = False

        await server.run(until)
    finally:
        probes.close()
        engine.dispose()


def main() -> int:
    """Return the exit status: 2 when the settings do not suffice."""
    try:
        settings = load(Role.GATEWAY)
        log_config.configure("gateway", level=settings.log_level, fmt=settings.log_format)
        asyncio.run(serve(settings))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
