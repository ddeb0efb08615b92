"""A whole station: dispensers with their sockets, one clock, one ledger."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

from sandbox.station.clock import Clock
from sandbox.station.config import StationConfig
from sandbox.station.customer import Customer, FillError, FillRequest, Forecourt
from sandbox.station.dispenser import Dispenser
from sandbox.station.faults import Fault
from sandbox.station.fuelling_point import FuellingPoint
from sandbox.station.ifsf_server import NodeLink
from sandbox.station.ifsf_wire import Heartbeat
from sandbox.station.ledger import Ledger, Sale

LEDGER_FILE = "station.sqlite3"


class UnknownPlaceError(LookupError):
    """No such node, fuelling point or nozzle."""


class Station:
    """Everything that runs in the simulator's process. One event loop owns it."""

    def __init__(self, config: StationConfig) -> None:
        self.config = config
        self.clock = Clock(rate=config.rate, instant=config.instant)
        self.ledger = Ledger(Path(config.data_dir) / LEDGER_FILE)
        self.links: dict[int, NodeLink] = {}
        numbers = count(1)
        for one in config.dispensers:
            dispenser = Dispenser(config=one, clock=self.clock, ledger=self.ledger)
            link = NodeLink(dispenser, Forecourt(dispenser.points, self.clock, numbers))
            link.on_heartbeat = self._broadcast
            self.links[one.node] = link

    def _broadcast(self, beat: Heartbeat, source_ip: str) -> None:
        """A controller's heartbeat is a broadcast: every dispenser of the station hears it."""
        for link in self.links.values():
            link.hear(beat, source_ip)

    async def start(self) -> None:
        """Bind every port."""
        for link in self.links.values():
            await link.start()

    async def stop(self) -> None:
        """Close every socket and the ledger."""
        await asyncio.gather(*(link.stop() for link in self.links.values()))
        self.ledger.close()

    def link(self, node: int) -> NodeLink:
        """Raises UnknownPlaceError."""
        if node not in self.links:
            raise UnknownPlaceError(f"no dispenser {node}")
        return self.links[node]

    def point(self, node: int, fp: int) -> FuellingPoint:
        """Raises UnknownPlaceError."""
        points = self.link(node).dispenser.points
        if fp not in points:
            raise UnknownPlaceError(f"dispenser {node} has no fuelling point {fp:#x}")
        return points[fp]

    def fill(self, request: FillRequest) -> Customer:
        """Send a customer. Raises UnknownPlaceError."""
        link = self.link(request.node)
        try:
            customer = link.forecourt.arrive(request)
        except FillError as error:
            raise UnknownPlaceError(str(error)) from error
        link.pump()
        return customer

    def find_fill(self, number: int) -> tuple[NodeLink, Customer]:
        """Raises UnknownPlaceError."""
        for link in self.links.values():
            customer = link.forecourt.find(number)
            if customer:
                return link, customer
        raise UnknownPlaceError(f"no fill {number}")

    def inflict(self, node: int | None, fault: Fault) -> None:
        """One node, or every node when none is named. Raises UnknownPlaceError."""
        for link in [self.link(node)] if node is not None else list(self.links.values()):
            link.inflict(fault)

    def clear_faults(self, node: int | None) -> None:
        """Raises UnknownPlaceError."""
        for link in [self.link(node)] if node is not None else list(self.links.values()):
            link.clear_faults()

    def set_clock(self, *, rate: int | None, instant: bool | None) -> None:
        """Change the speed of flow now. Raises ValueError outside 1..1000."""
        if rate is not None:
            self.clock.set_rate(rate)
        if instant is not None:
            self.clock.instant = instant
        for link in self.links.values():
            link.pump()

    # -- views -------------------------------------------------------------------------------------

    def state(self) -> dict[str, object]:
        """Where everything stands, for the control interface."""
        clock = {"rate": self.clock.rate, "instant": self.clock.instant}
        return {
            "sandbox": True,
            "clock": clock,
            "dispensers": [_node_view(one) for one in self.links.values()],
        }


def _node_view(link: NodeLink) -> dict[str, object]:
    armed = [{"kind": one.kind, "fp": one.fp, **one.values} for one in link.dispenser.faults.armed()]
    return {
        "node": link.config.node,
        "ip": link.config.ip,
        "tcp_port": link.tcp_port,
        "udp_port": link.udp_port,
        "online": link.online,
        "connected": link.connected,
        "faults": armed,
        "points": [_point_view(link.dispenser, point) for point in link.dispenser.points.values()],
    }


def _point_view(dispenser: Dispenser, point: FuellingPoint) -> dict[str, object]:
    return {
        "fp": point.fp,
        "state": point.state.name,
        "nozzle_out": point.nozzle_out,
        "stuck": point.stuck,
        "amount_fen": point.current_amount_fen(),
        "quantity_milli": point.current_centi() * 10,
        "unpaid": [sale.seq for sale in point.buffer.unpaid],
        "last_seq": point.buffer.last_sequence,
        "nozzles": [_nozzle_view(dispenser, point, number) for number in point.nozzles],
    }


def _nozzle_view(dispenser: Dispenser, point: FuellingPoint, number: int) -> dict[str, object]:
    nozzle = point.nozzles[number]
    totals = dispenser.ledger.totals(dispenser.config.node, point.fp, number)
    return {
        "nozzle": number,
        "product": nozzle.product,
        "name": nozzle.name,
        "unit": nozzle.unit,
        "price_fen_per_unit": point.price(number),
        "total_quantity_milli": totals.centi * 10,
        "total_amount_fen": totals.amount_fen,
        "sales": totals.sales,
    }


def sale_view(sale: Sale) -> dict[str, object]:
    """One line of the ledger as JSON: quantities in thousandths of the unit, money in fen."""
    return {
        "id": sale.id,
        "node": sale.node,
        "fp": sale.fp,
        "nozzle": sale.nozzle,
        "seq": sale.seq,
        "product": sale.product,
        "unit": sale.unit,
        "amount_fen": sale.amount_fen,
        "reported_amount_fen": sale.reported_amount_fen,
        "quantity_milli": sale.centi * 10,
        "price_fen_per_unit": sale.price_fen,
        "total_before_milli": sale.centi_before * 10,
        "total_after_milli": sale.centi_after * 10,
        "total_amount_before_fen": sale.amount_before,
        "total_amount_after_fen": sale.amount_after,
        "controller": sale.controller.hex(),
        "token": sale.token.hex(),
        "error": sale.error,
        "state": sale.state,
        "ended_at": sale.ended_at,
    }
