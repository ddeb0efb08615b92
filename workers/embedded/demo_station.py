"""The one station of the embedded stack, as the database's seed describes it.

Told to the dispenser simulator and to the station client in their own words; they share nothing else.
"""

from dataclasses import dataclass
from typing import Any

from db.seed import NOZZLES, PRODUCTS, STATION

STATION_CODE = STATION
# In IFSF the logical nozzles are addressed 0x11.. .
_FIRST_NOZZLE = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoNozzle:
    """A nozzle: its place (dispenser node, fuelling point, hook), its label, what it sells and how fast.

    `product_no` is the number in the dispenser's price database; flow is in hundredths of the unit a minute.
    """

    number: int
    node: int
    fp: int
    hook: int
    product_code: str
    product_no: int
    unit: str
    price_fen_per_unit: int
    flow_centi_per_min: int
    postpaid: bool


# code: number in the dispensers' price database, hundredths of the unit a minute
_AT_THE_DISPENSER = {
    "92": (92, 4000),
    "95": (95, 4000),
    "0": (10, 8000),
    "CNG": (201, 2000),
    "LNG": (202, 6000),
    "EV": (301, 800),
}


def _nozzles() -> tuple[DemoNozzle, ...]:
    prices = {row[0]: row[5] for row in PRODUCTS}
    return tuple(
        DemoNozzle(
            number=number,
            node=node,
            fp=fp,
            hook=hook,
            product_code=product,
            product_no=_AT_THE_DISPENSER[product][0],
            unit=unit,
            price_fen_per_unit=prices[product],
            flow_centi_per_min=_AT_THE_DISPENSER[product][1],
            postpaid=postpaid,
        )
        for number, node, fp, hook, product, unit, _prepaid, postpaid in NOZZLES
    )


NOZZLES_BY_NUMBER = {one.number: one for one in _nozzles()}


def _points(node: int) -> dict[int, list[DemoNozzle]]:
    points: dict[int, list[DemoNozzle]] = {}
    for nozzle in _nozzles():
        if nozzle.node == node:
            points.setdefault(nozzle.fp, []).append(nozzle)
    return points


def _nodes() -> list[int]:
    return sorted({nozzle.node for nozzle in _nozzles()})


def simulator_config(
    *, data_dir: str, control_port: int, heartbeat_port: int, rate: int, instant: bool
) -> dict[str, Any]:
    """The simulator's file: dispensers choose their own ports and announce them by heartbeat."""
    dispensers = [
        {
            "node": node,
            "points": [
                {"fp": fp, "nozzles": [_simulated(one) for one in nozzles]}
                for fp, nozzles in _points(node).items()
            ],
            "controller_udp_port": heartbeat_port,
            "heartbeat_s": 2,
            "peer_timeout_s": 10,
        }
        for node in _nodes()
    ]
    return {
        "dispensers": dispensers,
        "data_dir": data_dir,
        "control_port": control_port,
        "rate": rate,
        "instant": instant,
    }


def _simulated(nozzle: DemoNozzle) -> dict[str, Any]:
    return {
        "nozzle": _FIRST_NOZZLE + nozzle.hook,
        "product": nozzle.product_no,
        "name": nozzle.product_code,
        "unit": nozzle.unit,
        "price_fen_per_unit": nozzle.price_fen_per_unit,
        "flow_centi_per_min": nozzle.flow_centi_per_min,
    }


def client_config(*, data_dir: str, oscore_dir: str, server: str, heartbeat_port: int) -> dict[str, Any]:
    """The station client's file."""
    dispensers = [
        {
            "node": node,
            "ip": "127.0.0.1",
            "points": [
                {"fp": fp, "nozzles": [_driven(one) for one in nozzles]}
                for fp, nozzles in _points(node).items()
            ],
        }
        for node in _nodes()
    ]
    return {
        "station_code": STATION_CODE,
        "server": server,
        "oscore_dir": oscore_dir,
        "data_dir": data_dir,
        "dispensers": dispensers,
        "bind_host": "127.0.0.1",
        "heartbeat_port": heartbeat_port,
        "heartbeat_interval_s": 2.0,
        "peer_timeout_s": 10.0,
        "backoff_first_s": 0.2,
        "backoff_most_s": 5.0,
    }


def _driven(nozzle: DemoNozzle) -> dict[str, Any]:
    return {
        "nozzle": nozzle.hook,
        "number": nozzle.number,
        "product": nozzle.product_no,
        "unit": nozzle.unit,
        "postpaid": nozzle.postpaid,
    }
