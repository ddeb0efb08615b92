"""The sockets of one dispenser node: UDP heartbeats, TCP commands, TCP back to the controller.

Answers and unsolicited messages leave on the connection back when there is one, else on the command
connection: fielded controllers accept both. Time-driven work is done by one timer that is set to the next
due moment, so an idle node costs nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine

import structlog

from sandbox.station.customer import Forecourt
from sandbox.station.data_ids import FpState
from sandbox.station.dispenser import CONTROLLER_SUBNET, Dispenser
from sandbox.station.faults import Fault, FaultKind
from sandbox.station.ifsf_wire import (
    Heartbeat,
    Lna,
    Message,
    StreamCutter,
    WireError,
    decode_heartbeat,
    encode,
    encode_heartbeat,
)
from sandbox.station.outgoing import Outgoing

log = structlog.get_logger(__name__)

STATUS_ONLINE = 3
CONNECT_TIMEOUT_S = 5
READ_BYTES = 65_536
MAX_STEPS = 64
KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class NodeLink:
    """Front end of one dispenser over real sockets, and the driver of its timers."""

    def __init__(self, dispenser: Dispenser, forecourt: Forecourt) -> None:
        self.dispenser = dispenser
        self.forecourt = forecourt
        self.config = dispenser.config
        self.tcp_port = self.config.tcp_port
        self.udp_port = self.config.udp_port
        self.online = False
        self.changed = asyncio.Event()
        self._clock = dispenser.clock
        self._out = Outgoing(dispenser.faults)
        self._server: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._back: asyncio.StreamWriter | None = None
        self._commands: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._talks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._deaf_until = 0
        self._heard_at: int | None = None
        self._connecting = False
        self._returning = False
        self._beating: asyncio.Task[None] | None = None
        self.on_heartbeat: Callable[[Heartbeat, str], None] = self.hear

    @property
    def connected(self) -> bool:
        """True when messages can leave."""
        return self._back is not None or bool(self._commands)

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind both ports (the same ones again after an outage) and begin to send heartbeats."""
        self._server = await asyncio.start_server(self._serve, self.config.ip, self.tcp_port)
        self.tcp_port = self._server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(self.config.ip, self.udp_port), allow_broadcast=True
        )
        self.udp_port = self._udp.get_extra_info("sockname")[1]
        self.online = True
        self._beating = self._spawn(self._beat())
        if self.config.controller_tcp_port:
            self._connect(self.config.controller_ip, self.config.controller_tcp_port)
        self.pump()

    async def stop(self) -> None:
        """Close everything for good."""
        if self._timer:
            self._timer.cancel()
        self._disconnect(abort=False)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._talks, return_exceptions=True)

    def _disconnect(self, *, abort: bool) -> None:
        self.online = False
        if self._server:
            self._server.close()
        if self._udp:
            self._udp.close()
        if self._beating:
            self._beating.cancel()
        self._server = self._udp = None
        self._hang_up(abort=abort)

    def _hang_up(self, *, abort: bool) -> None:
        for writer in [*self._commands, *([self._back] if self._back else [])]:
            if abort:
                writer.transport.abort()
            else:
                writer.close()
        self._commands.clear()
        self._back = None
        self._out.drop()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- heartbeats --------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while self.online and self._udp:
            if not self.dispenser.faults.take(FaultKind.DROP_HEARTBEAT):
                lna = self.dispenser.lna
                beat = Heartbeat(ip=self.config.ip, tcp_port=self.tcp_port, lna=lna, status=STATUS_ONLINE)
                target = (self.config.controller_ip, self.config.controller_udp_port)
                self._udp.sendto(encode_heartbeat(beat), target)
            await asyncio.sleep(self.config.heartbeat_s)
            self._check_peer()

    def _check_peer(self) -> None:
        silent_ms = 0 if self._heard_at is None else self._clock.real_ms() - self._heard_at
        if silent_ms > self.config.peer_timeout_s * 1000:
            log.info("sandbox.station.controller_silent", node=self.config.node)
            self._heard_at = None
            self._hang_up(abort=False)

    def hear(self, beat: Heartbeat, source_ip: str) -> None:
        """A controller's heartbeat: remember it and connect back to the TCP port that it names."""
        if beat.lna.subnet != CONTROLLER_SUBNET or not self.online:
            return
        self._heard_at = self._clock.real_ms()
        self.dispenser.controller = beat.lna
        if self._back is None:
            self._connect(source_ip if beat.ip == "0.0.0.0" else beat.ip, beat.tcp_port)

    # -- connections -------------------------------------------------------------------------------

    def _connect(self, ip: str, port: int) -> None:
        if not self._connecting:
            self._connecting = True
            self._spawn(self._connect_back(ip, port))

    async def _connect_back(self, ip: str, port: int) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(ip, port)
        except (OSError, TimeoutError):
            log.info("sandbox.station.connect_failed", node=self.config.node, ip=ip, port=port)
            return
        finally:
            self._connecting = False
        if not self.online:
            writer.close()
            return
        first = not self._commands
        self._back = writer
        await self._talk(reader, writer, first=first)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task:
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)
        first = self._back is None and not self._commands
        self._commands.append(writer)
        await self._talk(reader, writer, first=first)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, first: bool) -> None:
        _keep_alive(writer)
        if first:
            self.dispenser.link_restored()
            self.pump()
        cutter = StreamCutter()
        try:
            while chunk := await reader.read(READ_BYTES):
                if self._clock.real_ms() < self._deaf_until:
                    continue
                for message in cutter.feed(chunk):
                    self._receive(message)
        except (OSError, WireError) as error:
            log.info("sandbox.station.connection_lost", node=self.config.node, error=str(error))
        finally:
            self._forget(writer)

    def _forget(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        if self._back is writer:
            self._back = None
        if writer in self._commands:
            self._commands.remove(writer)

    def _receive(self, message: Message) -> None:
        if message.sender.subnet == CONTROLLER_SUBNET:
            self.dispenser.controller = Lna(message.sender.subnet, message.sender.node)
        answer = self.dispenser.handle(message)
        if answer:
            self._send(answer)
        self.pump()

    def _send(self, message: Message) -> None:
        """On the connection back, else on the newest command connection; without either the message is
        lost.
        """
        writer = self._back or (self._commands[-1] if self._commands else None)
        if writer is None or self._clock.real_ms() < self._deaf_until:
            return
        self._out.send(writer, encode(message))

    # -- driving -----------------------------------------------------------------------------------

    def pump(self) -> None:
        """Do all that is due, send what came out of it, and set the timer to the next due moment."""
        for _ in range(MAX_STEPS):
            ticked = self.dispenser.tick()
            acted = self.forecourt.step()
            self._flush()
            if not ticked and not acted:
                break
        self._trip_armed_outage()
        self.changed.set()
        self.changed = asyncio.Event()
        self._set_timer()

    def _flush(self) -> None:
        messages, self.dispenser.outbox = self.dispenser.outbox, []
        for message in messages:
            self._send(message)

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        dues = [one for one in (self.dispenser.due(), self.forecourt.due()) if one is not None]
        if dues:
            wait_ms = max(1, min(dues) - self._clock.real_ms())
            self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self.pump)

    # -- faults ------------------------------------------------------------------------------------

    def inflict(self, fault: Fault) -> None:
        """Do a fault at once, or arm it until its moment comes."""
        match fault.kind:
            case FaultKind.HALF_OPEN:
                self._deaf_until = self._clock.real_ms() + fault["ms"]
            case FaultKind.OFFLINE | FaultKind.POWER_CUT if not fault["while_fuelling"]:
                self._after(fault["after_ms"], fault)
            case FaultKind.SEQUENCE:
                for fp in [fault.fp] if fault.fp is not None else list(self.dispenser.points):
                    self.dispenser.ledger.set_sequence(self.config.node, fp, fault["next"])
            case _:
                self.dispenser.faults.arm(fault)
        self.pump()

    def clear_faults(self) -> None:
        """Disarm everything, free stuck nozzles, listen again."""
        self.dispenser.faults.clear()
        self._deaf_until = 0
        for point in self.dispenser.points.values():
            if point.stuck:
                point.stuck = False
                point.hang_up()
        self.pump()

    def _trip_armed_outage(self) -> None:
        for point in self.dispenser.points.values():
            if point.state is FpState.FUELLING:
                for kind in (FaultKind.OFFLINE, FaultKind.POWER_CUT):
                    fault = self.dispenser.faults.take(kind, point.fp)
                    if fault:
                        self._after(fault["after_ms"], fault)

    def _after(self, delay_ms: int, fault: Fault) -> None:
        self._spawn(self._outage(delay_ms, fault))

    async def _outage(self, delay_ms: int, fault: Fault) -> None:
        await asyncio.sleep(delay_ms / 1000)
        if self._returning:
            return
        self._returning = True
        log.info("sandbox.station.outage", node=self.config.node, kind=str(fault.kind), ms=fault["ms"])
        power = fault.kind is FaultKind.POWER_CUT
        self._disconnect(abort=power)
        if power:
            self.dispenser.power_cut()
        self.pump()
        await asyncio.sleep(fault["ms"] / 1000)
        self._returning = False
        await self.start()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, link: NodeLink) -> None:
        self._link = link

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            beat = decode_heartbeat(data)
        except WireError:
            log.info("sandbox.station.bad_heartbeat", source=addr[0])
            return
        self._link.on_heartbeat(beat, addr[0])


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    peer: socket.socket = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in KEEPALIVE:
        peer.setsockopt(socket.IPPROTO_TCP, option, value)
