"""The whole stack under load: drivers through the API, WeChat's sandbox, real sockets to simulated dispensers."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from sqlalchemy import text
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from bench.measure import Rate, cpu_seconds
from db.session import make_engine
from domain import ids
from workers.embedded.stack import EmbeddedStack
from workers.story.people import Addresses, Cashier, Driver, Forecourt

POINTS = (1, 3, 5, 6, 7, 8, 9)
_POSTPAID = (3, 6, 7, 8)
_AMOUNT_FEN = 20_000


class Whole:
    """People at every fuelling point; one fill at a time at each."""

    def __init__(self, stack: EmbeddedStack, pids: dict[str, int]) -> None:
        self._addresses = Addresses(api=stack.api_url, wechat=stack.wechat_url, station=stack.station_url)
        self._pids = pids
        self._engine = make_engine(stack.database_url, pool_size=2)
        self._forecourt = Forecourt(self._addresses)
        self._drivers = {nozzle: Driver(self._addresses, openid=f"bench{nozzle}_ok") for nozzle in POINTS}
        self._cashier = Cashier(self._addresses)
        self._prices = {n: self._price(n) for n in POINTS}
        self._watched: list[str] = []
        self._last: dict[str, str] = {}

    def _price(self, nozzle: int) -> tuple[int, int]:
        quote = self._drivers[nozzle].quote(nozzle, _AMOUNT_FEN)
        return quote["price_fen_per_unit"], quote["price_version"]

    async def prepaid(self, seconds: float, *, use_all: bool) -> Rate:
        """Measure prepaid fills: the preset used to the last fen, or stopped early with a rest to return."""

        def one(nozzle: int) -> None:
            order = self._prepaid(nozzle, None if use_all else 10_000)
            self._last["prepaid, preset reached" if use_all else "prepaid, rest returned"] = order

        return await asyncio.to_thread(self._loop, one, POINTS, seconds)

    async def postpaid(self, seconds: float) -> Rate:
        """Measure post-paid fills paid in the mini-program."""
        return await asyncio.to_thread(self._loop, self._postpaid, _POSTPAID, seconds)

    async def latency(self, seconds: float, *, per_s: float) -> None:
        """Run prepaid fills at a steady pace, for the time from completion to receipt."""

        def pace(nozzle: int) -> None:
            begun = time.monotonic()
            self._watched.append(self._prepaid(nozzle, None))
            time.sleep(max(0.0, len(POINTS) / per_s - (time.monotonic() - begun)))

        await asyncio.to_thread(self._loop, pace, POINTS, seconds)

    def _prepaid(self, nozzle: int, quantity_milli: int | None) -> str:
        driver = self._drivers[nozzle]
        status, started = driver.start(nozzle, _AMOUNT_FEN, self._prices[nozzle])
        if status != 201:
            raise RuntimeError(f"start: {status} {started}")
        driver.wait_for(started["order_no"], "authorised")
        self._forecourt.fill(nozzle, quantity_milli=quantity_milli, prepaid=True)
        driver.wait_for(started["order_no"], "completed")
        return str(started["order_no"])

    def _postpaid(self, nozzle: int) -> None:
        self._forecourt.fill(nozzle, quantity_milli=20_000, prepaid=False)
        sale = None
        while sale is None:
            time.sleep(0.03)
            sale = next((o for o in self._cashier.unpaid() if o["nozzle_no"] == nozzle), None)
        driver = self._drivers[nozzle]
        driver.pay_sale(sale["order_no"])
        driver.wait_for(sale["order_no"], "completed")
        self._last["post-paid"] = sale["order_no"]

    def _loop(self, job: Callable[[int], None], nozzles: tuple[int, ...], seconds: float) -> Rate:
        counted = [0]
        running, lock = threading.Event(), threading.Lock()

        def stand(nozzle: int) -> None:
            while not running.is_set():
                job(nozzle)
                with lock:
                    counted[0] += 1

        with ThreadPoolExecutor(len(nozzles)) as pool:
            tasks = [pool.submit(stand, nozzle) for nozzle in nozzles]
            time.sleep(seconds / 5)
            before, at, cpu = counted[0], time.monotonic(), cpu_seconds(self._pids)
            time.sleep(seconds)
            done, took, after = counted[0] - before, time.monotonic() - at, cpu_seconds(self._pids)
            running.set()
            for task in tasks:
                task.result()
        each = {name: (after[name] - cpu[name]) * 1000 / max(done, 1) for name in self._pids}
        return Rate(per_s=done / took, count=done, cpu_ms=each)

    def receipt_latencies_ms(self) -> list[float]:
        """Return, for the paced fills, the milliseconds from the dispenser's own end of the fill to the receipt."""
        with self._engine.connect() as db:
            sql = (
                "SELECT s.order_no, p.node, p.fp, s.sequence, r.issued_at FROM sale s"
                " JOIN fuelling_point p ON p.id = s.fuelling_point_id JOIN receipt r ON r.order_no = s.order_no"
            )
            rows = db.execute(text(sql)).mappings().all()
        ended = {(s["node"], s["fp"], s["seq"]): s["ended_at"] for s in self._forecourt.sales()}
        watched = set(self._watched)
        found = []
        for row in rows:
            key = (row["node"], row["fp"], row["sequence"])
            if row["order_no"] in watched and key in ended:
                moment = datetime.fromisoformat(ended[key])
                found.append((row["issued_at"] - moment).total_seconds() * 1000)
        return found

    async def history_figures(self, client: Client) -> dict[str, float]:
        """Return events, regular activities and signals of the last order of each path."""
        figures: dict[str, float] = {}
        for path, order_no in self._last.items():
            history = await client.get_workflow_handle(ids.fill_workflow_id(order_no)).fetch_history()
            kinds = [event.event_type for event in history.events]
            figures[f"{path}: history events"] = len(kinds)
            figures[f"{path}: regular activities"] = kinds.count(EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
            figures[f"{path}: workflow tasks"] = kinds.count(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
            figures[f"{path}: signals"] = kinds.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
        return figures
