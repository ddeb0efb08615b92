"""A station, its client and a gateway server in one process, with fakes where the platform would be."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from contracts.station import AuthoriseCommand, CommandResult, SaleRecord
from db.repositories.gateway import LinkState, StoredCommand, StoredMessage
from domain.ids import authorise_command_id
from domain.quantity import Unit
from sandbox.station.config import DispenserConfig as SimDispenser
from sandbox.station.config import NozzleConfig as SimNozzle
from sandbox.station.config import PointConfig as SimPoint
from sandbox.station.config import StationConfig
from sandbox.station.customer import FillRequest
from sandbox.station.faults import parse_fault
from sandbox.station.station import Station
from station_gateway.client.config import ClientConfig, DispenserConfig, NozzleConfig, PointConfig
from station_gateway.client.main import StationClient
from station_gateway.server.contexts import StationContexts
from station_gateway.server.hub import CommandHub
from station_gateway.server.inbox import SaleInbox
from station_gateway.server.ports import DeskError
from station_gateway.server.provision import provision
from station_gateway.server.site import CoapServer
from workers.embedded.ports import any_free, is_free

STATION = "ST01"
PRICE = 735


def now() -> datetime:
    return datetime.now(tz=UTC)


def free_udp_port() -> int:
    """Return a port that is free for UDP and TCP, and none that the system gives to another job meanwhile."""
    while not is_free(port := any_free(udp=True)):
        continue
    return port


async def eventually(holds: Callable[[], object], within_s: float = 10.0, what: str = "") -> None:
    """Wait, bounded, until something holds."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"never happened: {what}"
        await asyncio.sleep(0.01)


class MemoryStore:
    """The gateway's tables in memory; survives a restart of the server, as a database does."""

    def __init__(self) -> None:
        self.messages: dict[tuple[str, str], StoredMessage] = {}
        self.order: list[str] = []
        self.received: dict[tuple[str, str], datetime] = {}
        self.handled: dict[tuple[str, str], str] = {}
        self.commands: dict[str, StoredCommand] = {}
        self.told: set[str] = set()
        self.links: dict[str, LinkState] = {}
        self.states: dict[tuple[str, int, int], dict[str, Any]] = {}
        self.broken = False

    def store_messages(self, messages: Sequence[StoredMessage], now: datetime) -> set[str]:
        if self.broken:
            raise OSError("the database is away")
        new = set()
        for one in messages:
            if (one.source, one.external_id) not in self.messages:
                self.messages[one.source, one.external_id] = one
                self.received[one.source, one.external_id] = now
                self.order.append(one.external_id)
                new.add(one.external_id)
        return new

    def unhandled(self, sources: Iterable[str], *, before: datetime, limit: int) -> list[StoredMessage]:
        wanted = set(sources)
        rows = [
            one
            for key, one in self.messages.items()
            if key not in self.handled and key[0] in wanted and self.received[key] < before
        ]
        return rows[:limit]

    def mark_handled(self, handled: Sequence[tuple[str, str, str]], now: datetime) -> None:
        for source, key, outcome in handled:
            self.handled[source, key] = outcome

    def count_attempt(self, source: str, external_id: str) -> None:
        return None

    def store_command(self, command: StoredCommand, now: datetime) -> str | None:
        return self.commands.setdefault(command.command_id, command).result

    def open_commands(self, station_code: str) -> list[StoredCommand]:
        rows = self.commands.values()
        return [one for one in rows if one.result is None and one.station_code == station_code]

    def store_results(
        self, station_code: str, results: Sequence[tuple[str, str, bool]], unknown: str, now: datetime
    ) -> None:
        for command_id, body, told in results:
            row = self.commands.get(command_id)
            if (
                row is None
                or row.station_code != station_code
                or (row.result is not None and unknown not in row.result)
            ):
                continue
            if row.result != body:
                self.told.discard(command_id)
            self.commands[command_id] = dataclasses.replace(row, result=body)
            if told:
                self.told.add(command_id)

    def untold(self, stations: Iterable[str], *, before: datetime, limit: int) -> list[tuple[str, str]]:
        rows = self.commands.values()
        wanted = [one for one in rows if one.station_code in set(stations)]
        return [
            (one.command_id, one.result) for one in wanted if one.result and one.command_id not in self.told
        ]

    def mark_told(self, command_id: str, result: str, now: datetime) -> None:
        self.told.add(command_id)

    def put_links(self, links: Sequence[LinkState]) -> None:
        self.links |= {one.station_code: one for one in links}

    def put_states(self, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            self.states[row["station_code"], row["node"], row["fp"]] = row

    def operator_of(self, station_code: str) -> str | None:
        return "OP"


class MemoryDesk:
    """Workflows that write down what they are told."""

    def __init__(self) -> None:
        self.sales: list[SaleRecord] = []
        self.results: list[CommandResult] = []
        self.away = False

    async def tell_sale(self, sale: SaleRecord) -> str:
        if self.away:
            raise DeskError("away")
        self.sales.append(sale)
        return "signalled" if sale.order_no else "started"

    async def tell_result(self, result: CommandResult) -> None:
        if self.away:
            raise DeskError("away")
        self.results.append(result)


@dataclass(kw_only=True)
class Rig:
    """Everything; parts can be stopped and started again on their own."""

    folder: Path
    nodes: int = 2
    transport: str = "udp"
    client_options: dict[str, Any] = field(default_factory=dict)
    device_options: dict[str, Any] = field(default_factory=dict)
    station_options: dict[str, Any] = field(default_factory=lambda: {"instant": True})
    hub_options: dict[str, Any] = field(default_factory=dict)
    inbox_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = MemoryStore()
        self.desk = MemoryDesk()
        self.coap_port = free_udp_port()
        self.uplink_port = self.coap_port
        self.heartbeat_port = free_udp_port()
        provision(self.folder / "server", self.folder / "client", STATION)
        self.station: Station | None = None
        self.client: StationClient | None = None
        self.hub: CommandHub | None = None
        self._stop_server: Callable[[], Any] | None = None

    # -- parts ---------------------------------------------------------------------------------------

    def simulator_config(self) -> StationConfig:
        nozzles = (
            SimNozzle(nozzle=0x11, product=92, name="92#", unit="L", price_fen_per_unit=PRICE),
            SimNozzle(nozzle=0x12, product=95, name="95#", unit="L", price_fen_per_unit=785),
        )
        options = {"heartbeat_s": 1, "running_ms": 50, "resend_ms": 500} | self.device_options
        dispensers = tuple(
            SimDispenser(
                node=node,
                points=(SimPoint(fp=0x21, nozzles=nozzles), SimPoint(fp=0x22, nozzles=nozzles)),
                controller_udp_port=self.heartbeat_port,
                **options,
            )
            for node in range(1, self.nodes + 1)
        )
        return StationConfig(dispensers=dispensers, data_dir=str(self.folder / "sim"), **self.station_options)

    def client_config(self) -> ClientConfig:
        nozzles = (
            NozzleConfig(nozzle=1, number=1, product=92, unit=Unit.LITRE),
            NozzleConfig(nozzle=2, number=2, product=95, unit=Unit.LITRE, postpaid=True),
        )
        points = (PointConfig(fp=0x21, nozzles=nozzles), PointConfig(fp=0x22, nozzles=nozzles))
        options = {
            "answer_timeout_s": 1.0,
            "reconnect_s": 0.05,
            "settle_retry_s": 0.05,
            "heartbeat_interval_s": 0.2,
            "peer_timeout_s": 3.0,
            "ack_timeout_s": 0.15,
            "backoff_first_s": 0.05,
            "backoff_most_s": 0.5,
            "report_interval_s": 0.1,
            "poll_hold_s": 2.0,
        } | self.client_options
        return ClientConfig(
            station_code=STATION,
            server=f"127.0.0.1:{self.uplink_port}",
            oscore_dir=str(self.folder / "client"),
            data_dir=str(self.folder / "data"),
            dispensers=tuple(
                DispenserConfig(node=node, ip="127.0.0.1", points=points) for node in range(1, self.nodes + 1)
            ),
            transport=self.transport,
            bind_host="127.0.0.1",
            heartbeat_port=self.heartbeat_port,
            **options,
        )

    async def start_station(self) -> Station:
        (self.folder / "sim").mkdir(exist_ok=True)
        self.station = Station(self.simulator_config())
        await self.station.start()
        return self.station

    async def start_client(self) -> StationClient:
        self.client = await StationClient.open(self.client_config())
        await self.client.start()
        return self.client

    async def stop_client(self) -> None:
        if self.client is not None:
            await self.client.stop()
            self.client = None

    async def start_server(self) -> CommandHub:
        contexts = StationContexts(self.folder / "server")
        hub = CommandHub(self.store, self.desk, now=now, relay_every_s=0.2, **self.hub_options)
        inbox = SaleInbox(
            self.store,
            self.desk,
            stations=lambda: contexts.stations,
            now=now,
            relay_every_s=0.2,
            **self.inbox_options,
        )
        server = await CoapServer.open(
            host="127.0.0.1",
            port=self.coap_port,
            tcp=self.transport == "tcp",
            contexts=contexts,
            hub=hub,
            inbox=inbox,
            ack_timeout_s=0.15,
        )
        hub.start()
        inbox.start()

        async def stop() -> None:
            await server.close()
            await hub.stop()
            await inbox.stop()
            contexts.close()

        self.hub, self._stop_server = hub, stop
        return hub

    async def end_server(self) -> None:
        """End the server as its process does when it is asked to: open polls are answered first."""
        assert self.hub is not None
        await self.hub.stop()
        await asyncio.sleep(0.3)
        await self.stop_server()

    async def stop_server(self) -> None:
        """End the server in the middle of everything, as a kill would."""
        if self._stop_server is not None:
            await self._stop_server()
            self._stop_server = None

    async def stop(self) -> None:
        await self.stop_client()
        await self.stop_server()
        if self.station is not None:
            await self.station.stop()

    # -- what tests do ----------------------------------------------------------------------------------

    async def online(self) -> None:
        client = self.client
        assert client is not None
        await eventually(
            lambda: all(one.online for one in client.driver.dispensers.values()), what="dispensers online"
        )

    def lift_and_fill(self, node: int, fp: int, nozzle: int, quantity_milli: int | None, **more: Any) -> None:
        assert self.station is not None
        request = FillRequest(node=node, fp=fp, nozzle=0x10 + nozzle, quantity_milli=quantity_milli, **more)
        self.station.fill(request)

    def inflict(self, node: int, **fault: Any) -> None:
        assert self.station is not None
        self.station.inflict(node, parse_fault(fault))

    def truth(self) -> list[tuple[int, int, int, int, int]]:
        """(node, fp, nozzle, amount, quantity) of everything that the simulator dispensed."""
        assert self.station is not None
        rows = self.station.ledger.sales()
        return sorted((s.node, s.fp, s.nozzle - 0x10, s.reported_amount_fen, s.centi * 10) for s in rows)

    def landed(self) -> list[tuple[int, int, int, int, int]]:
        """The same, as the platform was told; zero sales left out.

        A workflow knows a sale by its natural key, so being told twice (a crash after the signal) counts once.
        """
        sales = {sale.natural_key: sale for sale in self.desk.sales if sale.quantity_milli}.values()
        return sorted((s.node, s.fp, s.nozzle, s.amount_fen, s.quantity_milli) for s in sales)


def authorise_command(
    order_no: str,
    *,
    node: int = 1,
    fp: int = 0x21,
    nozzle: int = 1,
    amount_fen: int = 5000,
    price: int = PRICE,
    expires_in_s: float = 10.0,
) -> AuthoriseCommand:
    return AuthoriseCommand(
        command_id=authorise_command_id(order_no),
        order_no=order_no,
        station_code=STATION,
        node=node,
        fp=fp,
        nozzle=nozzle,
        amount_fen=amount_fen,
        price_fen_per_unit=price,
        expires_at=now() + timedelta(seconds=expires_in_s),
    )


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Rig]:
    """Start simulator, server and client, wait until the dispensers are online, and stop everything after."""
    rig = Rig(folder=folder, **options)
    try:
        await rig.start_station()
        await rig.start_server()
        await rig.start_client()
        await rig.online()
        yield rig
    finally:
        await rig.stop()
