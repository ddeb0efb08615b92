"""The controller of a station's IFSF dispensers: discovery, connections, and the two commands."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime

import structlog

from contracts.station import AuthoriseCommand, CommandResult, PointReport, StopCommand
from station_gateway.client import authorise
from station_gateway.client.config import ClientConfig, ConfigError, DispenserConfig
from station_gateway.client.health import ONLINE, broken, pause_s
from station_gateway.client.heartbeats import HeartbeatPort
from station_gateway.client.lifetime import Lifetime, utc_now
from station_gateway.client.link import DispenserLink, LinkError, Wire
from station_gateway.client.outbox import OpenAuthorisation, Outbox
from station_gateway.client.point import Point
from station_gateway.client.sales import PointKey
from station_gateway.client.states import FLOWING
from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.heartbeat import Heartbeat
from station_gateway.protocols.ifsf.ids import (
    COMMUNICATION_DB,
    CONTROLLER_SUBNET,
    DISPENSER_SUBNET,
    ComId,
)
from station_gateway.protocols.ifsf.messages import Address, Message

log = structlog.get_logger(__name__)


def report_of(point: Point) -> PointReport:
    """Return a point's state for the live view."""
    amount, quantity = point.running if point.running and point.state in FLOWING else (None, None)
    return PointReport(
        station_code=point.key.station_code,
        node=point.key.node,
        fp=point.key.fp,
        state=point.state,
        nozzle=point.nozzle_out,
        running_amount_fen=amount,
        running_quantity_milli=quantity,
    )


class Dispenser:
    """One node: alive while its heartbeats come, connected while alive."""

    def __init__(
        self,
        station: ClientConfig,
        config: DispenserConfig,
        outbox: Outbox,
        *,
        on_change: Callable[[], None],
        on_result: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self.config = config
        self._station = station
        self._controller = bytes((CONTROLLER_SUBNET, station.controller_node))
        self.link = DispenserLink(
            node=config.node,
            controller=Address(*self._controller),
            answer_timeout_s=station.answer_timeout_s,
            on_message=self._heard,
        )
        self.points = {
            one.fp: Point(
                key=PointKey(station_code=station.station_code, node=config.node, config=one),
                link=self.link,
                outbox=outbox,
                controller=self._controller,
                device=config,
                postpaid_release=station.postpaid_release,
                settle_retry_s=station.settle_retry_s,
                on_change=on_change,
                on_result=on_result,
                now=now,
            )
            for one in config.points
        }
        self.heartbeat_target = (config.ip, config.heartbeat_port) if config.heartbeat_port else None
        self._port = 0
        self._alive = asyncio.Event()
        self._death: asyncio.TimerHandle | None = None
        self._session: asyncio.Task[None] | None = None

    @property
    def online(self) -> bool:
        """Return whether every point has been read since the last connect."""
        return all(point.ready for point in self.points.values())

    def start(self) -> None:
        """Begin to wait for heartbeats."""
        self._session = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Drop the connection and the timers."""
        if self._death is not None:
            self._death.cancel()
        if self._session is not None:
            self._session.cancel()
            await asyncio.gather(self._session, return_exceptions=True)
        self.link.close()

    def beat(self, beat: Heartbeat, source: tuple[str, int]) -> bool:
        """Take a heartbeat; return False when it does not come from where this node lives."""
        expected = self.config.tcp_port
        if source[0] != self.config.ip or (expected and beat.tcp_port != expected) or not beat.tcp_port:
            log.warning("ifsf.heartbeat.foreign", node=self.config.node, peer=source[0])
            return False
        if self.heartbeat_target is None or not self.config.heartbeat_port:
            self.heartbeat_target = source
        if self._port != beat.tcp_port and self._port:
            self.link.close()
        self._port = beat.tcp_port
        if self._death is not None:
            self._death.cancel()
        self._death = asyncio.get_running_loop().call_later(self._station.peer_timeout_s, self._silent)
        self._alive.set()
        return True

    def _silent(self) -> None:
        log.warning("ifsf.dispenser.silent", node=self.config.node)
        self._alive.clear()
        self.link.close()

    async def _run(self) -> None:
        """One session after another; whatever breaks one, the next reads everything again."""
        failures = 0
        while True:
            await self._alive.wait()
            try:
                await self._connected()
                failures = 0
            except (LinkError, IfsfError) as error:
                log.info("ifsf.dispenser.unready", node=self.config.node, reason=str(error))
            except Exception as error:  # noqa: BLE001 - a full disk, say: the dispenser must come back by itself
                failures += 1
                broken(f"dispenser {self.config.node}", error)
            self.link.close()
            ONLINE.labels(self.config.node).set(0)
            for point in self.points.values():
                point.offline()
            await asyncio.sleep(pause_s(failures, self._station.reconnect_s, self._station.backoff_most_s))

    async def _connected(self) -> None:
        await self.link.open(self.config.ip, self._port)
        await self.link.write(COMMUNICATION_DB, (ComId.ADD_RECIPIENT, self._controller))
        await self._start_points()
        ONLINE.labels(self.config.node).set(1)
        log.info("ifsf.dispenser.online", node=self.config.node)
        await self.link.closed.wait()
        log.warning("ifsf.dispenser.offline", node=self.config.node)

    async def _start_points(self) -> None:
        """Start every point; one whose state cannot be read keeps no other waiting and is tried again.

        Raises LinkError.
        """
        waiting, tries = list(self.points.values()), 0
        while True:
            waiting = [point for point in waiting if not await self._has_started(point)]
            if not waiting:
                return
            tries += 1
            pause = pause_s(tries, self._station.reconnect_s, self._station.backoff_most_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.link.closed.wait(), pause)

    async def _has_started(self, point: Point) -> bool:
        try:
            await point.start(open_point=self._station.open_points)
        except IfsfError as error:
            log.warning("ifsf.point.unready", node=self.config.node, fp=point.key.fp, error=str(error))
            return False
        return True

    def _heard(self, message: Message) -> None:
        point = self.points.get(message.database[0])
        if point is None:
            return
        try:
            point.heard(message)
        except IfsfError as error:
            log.warning("ifsf.message.unreadable", node=self.config.node, error=str(error))


class IfsfDriver:
    """All dispensers of the station behind one UDP port and one TCP port.

    Raises ConfigError when an order is still open at a nozzle that the configuration names no more.
    """

    def __init__(
        self,
        config: ClientConfig,
        outbox: Outbox,
        *,
        on_change: Callable[[], None],
        on_result: Callable[[], None],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self.dispensers = {
            one.node: Dispenser(config, one, outbox, on_change=on_change, on_result=on_result, now=now)
            for one in config.dispensers
        }
        for opened in outbox.authorisations():
            self._open_again(opened)
        self._heartbeats: HeartbeatPort | None = None
        self._listener: asyncio.Server | None = None
        self._routes: dict[Wire, Dispenser] = {}
        self._wires: set[Wire] = set()

    def _open_again(self, opened: OpenAuthorisation) -> None:
        point = self.point(opened.node, opened.fp)
        if point is None or point.key.nozzle(opened.nozzle) is None:
            place = f"dispenser {opened.node}, point {opened.fp:#x}, nozzle {opened.nozzle}"
            raise ConfigError(
                f"order {opened.order_no} is still open at {place}: keep that until it has ended"
            )
        point.opened = opened

    def point(self, node: int, fp: int) -> Point | None:
        """Return a fuelling point of the configuration."""
        dispenser = self.dispensers.get(node)
        return dispenser.points.get(fp) if dispenser else None

    def reports(self) -> list[PointReport]:
        """Return the state of every fuelling point."""
        return [report_of(point) for one in self.dispensers.values() for point in one.points.values()]

    @property
    def ports(self) -> tuple[int, int]:
        """Return the UDP heartbeat port and the TCP port that the driver listens on."""
        assert self._heartbeats is not None
        assert self._listener is not None
        return self._heartbeats.port, int(self._listener.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Bind both ports, announce ourselves, wait for dispensers. Raises OSError when a port is taken."""
        config = self._config
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._accept, config.bind_host, config.tcp_port)
        self._heartbeats = await HeartbeatPort.bind(config.bind_host, config.heartbeat_port, self._beat)
        for dispenser in self.dispensers.values():
            dispenser.start()
        beat = Heartbeat(
            ip=config.ip, tcp_port=self.ports[1], sender=Address(CONTROLLER_SUBNET, config.controller_node)
        )
        self._heartbeats.announce(beat, config.heartbeat_interval_s, self._targets)

    async def stop(self) -> None:
        """Close everything; open authorisations stay in the outbox."""
        if self._heartbeats is not None:
            self._heartbeats.close()
        if self._listener is not None:
            self._listener.close()
        for dispenser in self.dispensers.values():
            await dispenser.stop()
        for wire in tuple(self._wires):
            wire.close()

    def _targets(self) -> list[tuple[str, int]]:
        return [one.heartbeat_target for one in self.dispensers.values() if one.heartbeat_target is not None]

    def _beat(self, beat: Heartbeat, source: tuple[str, int]) -> None:
        dispenser = self.dispensers.get(beat.sender.node) if beat.sender.subnet == DISPENSER_SUBNET else None
        if dispenser is None:
            return
        known = dispenser.heartbeat_target
        if (
            dispenser.beat(beat, source)
            and known != dispenser.heartbeat_target
            and self._heartbeats is not None
        ):
            self._heartbeats.send_to(source)

    def _accept(self) -> Wire:
        wire = Wire(self._received, self._lost)
        self._wires.add(wire)
        return wire

    def _received(self, wire: Wire, message: Message) -> None:
        """The first message on a connection back says whose it is; the peer address must agree."""
        dispenser = self._routes.get(wire)
        if dispenser is None:
            is_dispenser = message.origin.subnet == DISPENSER_SUBNET
            dispenser = self.dispensers.get(message.origin.node) if is_dispenser else None
            if dispenser is None or dispenser.config.ip != wire.peer_ip:
                log.warning("ifsf.connection.foreign", peer=wire.peer_ip)
                wire.close()
                return
            self._routes[wire] = dispenser
            dispenser.link.adopt(wire)
        dispenser.link.received(wire, message)

    def _lost(self, wire: Wire) -> None:
        self._wires.discard(wire)
        dispenser = self._routes.pop(wire, None)
        if dispenser is not None:
            dispenser.link.back_lost(wire)

    async def authorise(self, command: AuthoriseCommand, lifetime: Lifetime) -> CommandResult:
        """Release a nozzle for an order."""
        point = self.point(command.node, command.fp)
        if point is None:
            return authorise.refused(command, "NOZZLE_UNKNOWN")
        return await authorise.authorise(point, command, lifetime)

    async def stop_order(self, command: StopCommand) -> CommandResult:
        """Withdraw an order's authorisation."""
        point = self.point(command.node, command.fp)
        if point is None:
            return authorise.refused(command, "NOT_AUTHORISED")
        return await authorise.stop(point, command)
