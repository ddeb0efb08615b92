"""What the client outlived and what it could not find out: Prometheus metrics of one station.

Nothing that goes wrong ends a part of the client: it is logged with its trace, counted here, and the part goes on
after a pause that grows from failure to failure.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import Counter, Gauge, start_http_server

log = structlog.get_logger(__name__)

FAILURES = Counter("jiazhu_station_failures", "Unexpected errors that the client outlived", ["part"])
TOTALISER_GAPS = Counter(
    "jiazhu_station_totaliser_gaps", "Totaliser readings that no sale explains", ["node", "fp", "nozzle"]
)
TOTALISER_UNREADABLE = Counter(
    "jiazhu_station_totaliser_unreadable", "Totaliser readings that are nonsense", ["node", "fp", "nozzle"]
)
SYNTHESISED = Counter(
    "jiazhu_station_synthesised_sales", "Orders that ended without a transaction, left to a person"
)
CLEARS_REFUSED = Counter(
    "jiazhu_station_clears_refused", "Transactions that a dispenser would not clear", ["node", "fp"]
)
BUFFERS_UNREADABLE = Counter(
    "jiazhu_station_buffers_unreadable",
    "Reads of a transaction buffer that a dispenser refused",
    ["node", "fp"],
)
WAITING = Gauge("jiazhu_station_sales_waiting", "Sales in the outbox that the server has not acknowledged")
ONLINE = Gauge("jiazhu_station_dispenser_online", "1 while the dispenser is connected and read", ["node"])

_MOST_DOUBLINGS = 16


def broken(part: str, error: Exception) -> None:
    """Log an unexpected error with its trace and count it."""
    FAILURES.labels(part).inc()
    log.error("client.part.broken", part=part, error=repr(error), exc_info=error)


def pause_s(failures: int, first_s: float, most_s: float) -> float:
    """Return the pause after the nth failure in a row, in seconds: doubled each time up to a bound."""
    return min(most_s, float(first_s * 2 ** min(max(failures - 1, 0), _MOST_DOUBLINGS)))


async def keep_running(
    part: str, work: Callable[[], Awaitable[None]], *, first_s: float, most_s: float
) -> None:
    """Run a loop for ever: when it breaks, report it, pause, and start it again."""
    failures = 0
    while True:
        began = time.monotonic()
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever broke, the station goes on selling
            failures = 1 if time.monotonic() - began > most_s else failures + 1
            broken(part, error)
        await asyncio.sleep(pause_s(failures, first_s, most_s))


def serve(port: int) -> WSGIServer:
    """Serve the metrics at a port of the loopback (0: any). Raises OSError when it is taken."""
    server, _ = start_http_server(port, addr="127.0.0.1")
    return server
