"""HTTP control of the simulated station, for tests, benches and demonstrations."""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.station.config import ConfigError
from sandbox.station.customer import ENDED, Customer, FillError, parse_fill, whole_number
from sandbox.station.faults import FaultError, parse_fault
from sandbox.station.ifsf_server import NodeLink
from sandbox.station.station import Station, UnknownPlaceError, sale_view


def build_app(station: Station) -> Starlette:
    """The control application of a station."""
    control = Control(station)
    return Starlette(
        routes=[
            Route("/healthz", control.health),
            Route("/state", control.state),
            Route("/ledger", control.ledger),
            Route("/nozzles/{node:int}/{fp:int}/{nozzle:int}/lift", control.lift, methods=["POST"]),
            Route("/nozzles/{node:int}/{fp:int}/{nozzle:int}/squeeze", control.squeeze, methods=["POST"]),
            Route("/nozzles/{node:int}/{fp:int}/{nozzle:int}/hang-up", control.hang_up, methods=["POST"]),
            Route("/fills", control.fill, methods=["POST"]),
            Route("/fills/{number:int}", control.fill_state),
            Route("/faults", control.fault, methods=["POST"]),
            Route("/faults", control.clear_faults, methods=["DELETE"]),
            Route("/clock", control.clock, methods=["POST"]),
        ],
        exception_handlers={
            UnknownPlaceError: _not_found,
            FillError: _bad,
            FaultError: _bad,
            ConfigError: _bad,
            ValueError: _bad,
        },
    )


async def _not_found(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=404)


async def _bad(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)


class Control:
    """Handlers; each answers with what it changed."""

    def __init__(self, station: Station) -> None:
        self._station = station

    async def health(self, _: Request) -> Response:
        """Alive, and says that it is a sandbox."""
        nodes = list(self._station.links)
        return JSONResponse({"status": "ok", "sandbox": True, "service": "sandbox-station", "nodes": nodes})

    async def state(self, _: Request) -> Response:
        """Clock, dispensers, points, nozzles, totalisers."""
        return JSONResponse(self._station.state())

    async def ledger(self, request: Request) -> Response:
        """True sales after `?after_id=`, at most `?limit=`."""
        after = int(request.query_params.get("after_id", "0"))
        limit = int(request.query_params.get("limit", "10000"))
        sales = self._station.ledger.sales(after_id=after, limit=limit)
        return JSONResponse({"sandbox": True, "sales": [sale_view(one) for one in sales]})

    async def lift(self, request: Request) -> Response:
        """Take the nozzle out."""
        link, point, nozzle = self._place(request)
        done = nozzle in point.nozzles and point.lift(nozzle)
        return self._physical(link, done, "another nozzle is out, or there is no such nozzle")

    async def squeeze(self, request: Request) -> Response:
        """Pull the trigger: `{"quantity_milli": n}`, or nothing = until the preset or the hang-up."""
        link, point, nozzle = self._place(request)
        raw = await _body(request)
        quantity = raw.get("quantity_milli")
        limit = None if quantity is None else whole_number("quantity_milli", quantity) // 10
        done = point.nozzle_out == nozzle and point.squeeze(limit_centi=limit)
        return self._physical(link, done, "the point is not released for this nozzle")

    async def hang_up(self, request: Request) -> Response:
        """Put the nozzle back."""
        link, point, nozzle = self._place(request)
        done = point.nozzle_out == nozzle and point.hang_up()
        return self._physical(link, done, "this nozzle is not out")

    async def fill(self, request: Request) -> Response:
        """Send a customer; with `"wait": true` answer when the customer has left."""
        raw = await _body(request)
        customer = self._station.fill(parse_fill(raw))
        if raw.get("wait") is True:
            await self._until_left(customer)
        return JSONResponse(customer.view(), status_code=200 if customer.phase in ENDED else 202)

    async def fill_state(self, request: Request) -> Response:
        """How far a customer is."""
        _, customer = self._station.find_fill(request.path_params["number"])
        return JSONResponse(customer.view())

    async def fault(self, request: Request) -> Response:
        """Arm or do one fault, or a list of them under `"script"`."""
        raw = await _body(request)
        script = raw.get("script", [raw])
        if not isinstance(script, list) or not all(isinstance(one, dict) for one in script):
            raise FaultError("script must be a list of faults")
        faults = [(one.get("node"), parse_fault(one)) for one in script]
        for node, fault in faults:
            self._station.inflict(node, fault)
        return JSONResponse({"accepted": [str(fault.kind) for _, fault in faults]})

    async def clear_faults(self, request: Request) -> Response:
        """Disarm the faults of `?node=`, or of the whole station."""
        node = request.query_params.get("node")
        self._station.clear_faults(None if node is None else int(node))
        return JSONResponse({"cleared": True})

    async def clock(self, request: Request) -> Response:
        """`{"rate": 1..1000, "instant": bool}`."""
        raw = await _body(request)
        rate, instant = raw.get("rate"), raw.get("instant")
        if (rate is not None and not isinstance(rate, int)) or not isinstance(instant, bool | None):
            raise FaultError("rate must be a whole number and instant a boolean")
        self._station.set_clock(rate=rate, instant=instant)
        return JSONResponse({"rate": self._station.clock.rate, "instant": self._station.clock.instant})

    def _place(self, request: Request) -> tuple[NodeLink, Any, int]:
        path = request.path_params
        return self._station.link(path["node"]), self._station.point(path["node"], path["fp"]), path["nozzle"]

    def _physical(self, link: NodeLink, done: bool, why_not: str) -> Response:
        link.pump()
        if not done:
            return JSONResponse({"error": why_not}, status_code=409)
        return JSONResponse({"done": True})

    async def _until_left(self, customer: Customer) -> None:
        link = self._station.link(customer.request.node)
        while customer.phase not in ENDED:
            await link.changed.wait()


async def _body(request: Request) -> dict[str, Any]:
    text = await request.body()
    try:
        raw = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise FaultError(f"not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise FaultError("the body must be a JSON object")
    return raw
