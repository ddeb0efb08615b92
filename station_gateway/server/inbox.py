"""Sales of the stations: stored first, acknowledged after the commit, then handed to workflows.

The key that the station sent makes a sale arrive once at its station's source, however often it is sent; workflows
and orders know it by its natural key, which also holds the station that OSCORE proved. A crash between commit and signal leaves an
unhandled row, which the relay sends again; workflows know a sale by its key, so twice is harmless. A sale that
cannot be read is kept as `malformed`, for a person.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import structlog
from prometheus_client import Counter, Gauge

from contracts.station import PointReport, SaleRecord
from db.repositories.gateway import StoredMessage
from station_gateway.protocols.uplink.bodies import (
    BodyError,
    dumps,
    key_at_station,
    loads,
    parse_report,
    parse_sale,
)
from station_gateway.server.ports import Desk, DeskError, Store
from station_gateway.server.rate import OverLimitError, TokenBucket

log = structlog.get_logger(__name__)

SALE, MALFORMED = "sale", "malformed"
SALES_PER_MINUTE, SALES_BURST = 240, 2_000
"""How many sales a station may send: a day's backlog at once, and then far more than its pumps can dispense."""
_FLUSH_S = 0.2
_RELAY_LIMIT = 100

SALES = Counter("jiazhu_gateway_sales", "Sales received from stations", ["result"])
UNREAD = Counter(
    "jiazhu_gateway_sales_malformed", "Sales that cannot be read and wait for a person", ["station"]
)
TOLD = Counter("jiazhu_gateway_sales_told", "Sales handed to workflows", ["outcome"])
UNTOLD = Gauge("jiazhu_gateway_sales_waiting", "Stored sales that no workflow has been told of")


def source_of(station_code: str) -> str:
    """Return the inbox source of a station."""
    return f"station:{station_code}"


class SaleInbox:
    """Stores what stations send and tells workflows."""

    def __init__(
        self,
        store: Store,
        desk: Desk,
        *,
        stations: Callable[[], Iterable[str]],
        now: Callable[[], datetime],
        relay_every_s: float = 5.0,
        sales_per_minute: int = SALES_PER_MINUTE,
        sales_burst: int = SALES_BURST,
    ) -> None:
        self._store = store
        self._desk = desk
        self._stations = stations
        self._now = now
        self._relay_every_s = relay_every_s
        self._limit = (sales_per_minute / 60, float(sales_burst))
        self._limits: dict[str, TokenBucket] = {}
        self._telling: set[str] = set()
        self._handled: list[tuple[str, str, str]] = []
        self._noted: set[tuple[str, str]] = set()
        self._flush: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to relay what an earlier process left."""
        self._spawn(self._relay())

    async def stop(self) -> None:
        """Stop relaying and write what is handled; the rest is told again after the next start."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._flush is not None:
            self._flush.cancel()
        await self._write_handled()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def take(self, station_code: str, body: bytes) -> None:
        """Store the sales and states of one message; return after the commit.

        Raises BodyError when the message is no message at all, OverLimitError when the station sends too many sales.
        A single unreadable sale is kept for a person and acknowledged, or it would block the station's outbox for
        ever.
        """
        values = loads(body)
        listed, states = values.get("e", []), values.get("s", [])
        if not isinstance(listed, list) or not isinstance(states, list):
            raise BodyError("not lists")
        reports = _reports(station_code, states)
        if listed:
            self._count(station_code, len(listed))
            await self._store_sales(station_code, listed)
        if reports:
            await asyncio.to_thread(self._store.put_states, [_state_row(one, self._now()) for one in reports])

    def _count(self, station_code: str, sales: int) -> None:
        """Raise OverLimitError when a station is over its limit; every sale may start a workflow."""
        limit = self._limits.get(station_code)
        if limit is None:
            per_s, most = self._limit
            limit = self._limits[station_code] = TokenBucket(per_s=per_s, most=most, clock=time.monotonic)
        wait_s = limit.take(sales)
        if wait_s:
            raise OverLimitError(wait_s)

    async def _store_sales(self, station_code: str, listed: list[Any]) -> None:
        messages, sales = [], {}
        for raw in listed:
            message, sale = _message(station_code, raw)
            messages.append(message)
            if sale is not None:
                sales[message.external_id] = sale
        unique = list({one.external_id: one for one in messages}.values())
        new = await asyncio.to_thread(self._store.store_messages, unique, self._now())
        SALES.labels("new").inc(len(new))
        SALES.labels("known").inc(len(listed) - len(new))
        for key in new & sales.keys():
            self._spawn(self._tell(source_of(station_code), sales[key]))
        for key in new - sales.keys():
            self._keep_malformed(source_of(station_code), key)

    def _keep_malformed(self, source: str, key: str) -> None:
        """Say loudly that a person has to read a row; no workflow will ever know of it."""
        log.error("gateway.sale.malformed", station=_station_of(source), source=source, external_id=key)
        UNREAD.labels(_station_of(source)).inc()
        self._note(source, key, MALFORMED)

    async def _tell(self, source: str, sale: SaleRecord) -> None:
        key = key_at_station(sale.natural_key)
        if sale.natural_key in self._telling:
            return
        self._telling.add(sale.natural_key)
        try:
            outcome = await self._desk.tell_sale(sale)
        except DeskError as error:
            log.warning("gateway.sale.untold", order=sale.order_no, key=sale.natural_key, reason=str(error))
            TOLD.labels("failed").inc()
            await asyncio.to_thread(self._store.count_attempt, source, key)
        else:
            log.info("gateway.sale.told", order=sale.order_no, key=sale.natural_key, outcome=outcome)
            TOLD.labels(outcome).inc()
            self._note(source, key, outcome)
        finally:
            self._telling.discard(sale.natural_key)

    def _note(self, source: str, key: str, outcome: str) -> None:
        """Collect handled keys: one UPDATE for many sales. A crash before it only tells them again."""
        self._handled.append((source, key, outcome))
        self._noted.add((source, key))
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        self._spawn(self._write_handled())

    async def _write_handled(self) -> None:
        handled, self._handled = self._handled, []
        if handled:
            try:
                await asyncio.to_thread(self._store.mark_handled, handled, self._now())
            finally:
                self._noted -= {(source, key) for source, key, _ in handled}

    async def _relay(self) -> None:
        while True:
            try:
                await self._relay_once()
            except Exception as error:  # noqa: BLE001 - the database may be away; the relay must outlive it
                log.warning("gateway.relay.failed", error=str(error))
            await asyncio.sleep(self._relay_every_s)

    async def _relay_once(self) -> None:
        sources = [source_of(code) for code in self._stations()]
        before = self._now() - timedelta(seconds=self._relay_every_s)
        waiting = await asyncio.to_thread(self._store.unhandled, sources, before=before, limit=_RELAY_LIMIT)
        UNTOLD.set(len(waiting))
        for message in waiting:
            if (message.source, message.external_id) in self._noted:
                continue
            sale = _stored_sale(message)
            if sale is None:
                self._keep_malformed(message.source, message.external_id)
            else:
                await self._tell(message.source, sale)


def _station_of(source: str) -> str:
    return source.partition(":")[2]


def _stored_sale(message: StoredMessage) -> SaleRecord | None:
    """Return the sale in a row, None when there is none to read."""
    if message.kind != SALE:
        return None
    try:
        return parse_sale(_station_of(message.source), loads(message.body.encode()))
    except BodyError:
        return None


def _message(station_code: str, raw: Any) -> tuple[StoredMessage, SaleRecord | None]:
    source = source_of(station_code)
    try:
        sale = parse_sale(station_code, raw)
        body = dumps(raw)
    except BodyError:
        body = json.dumps(raw)
        key = hashlib.sha256(body.encode()).hexdigest()
        stored = StoredMessage(source=source, external_id=key, kind=MALFORMED, business_no="", body=body)
        return stored, None
    order_no = sale.order_no or ""
    return (
        StoredMessage(
            source=source,
            external_id=key_at_station(sale.natural_key),
            kind=SALE,
            business_no=order_no,
            body=body,
        ),
        sale,
    )


def _reports(station_code: str, states: list[Any]) -> list[PointReport]:
    """Return the readable states; an unreadable one is only a picture and must not hold sales back."""
    reports = []
    for raw in states:
        try:
            reports.append(parse_report(station_code, raw))
        except BodyError:
            log.warning("gateway.state.unreadable", station=station_code)
    return reports


def _state_row(report: PointReport, now: datetime) -> dict[str, Any]:
    return {
        "station_code": report.station_code,
        "node": report.node,
        "fp": report.fp,
        "state": report.state.value,
        "nozzle": report.nozzle,
        "running_amount_fen": report.running_amount_fen,
        "running_quantity_milli": report.running_quantity_milli,
        "updated_at": now,
    }
