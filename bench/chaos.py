"""`make chaos`: kill -9 of worker, API, gateway server, station client and PostgreSQL at random moments over many fills.

At the end three ledgers have to be equal and no order open. Seeded and bounded in time; traffic stays on loopback.
"""

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db.session import make_engine
from workers.embedded.process import StackError
from workers.embedded.services import StackOptions
from workers.embedded.stack import EmbeddedStack
from workers.story.demo import table
from workers.story.ledgers import Comparison, compare, open_orders
from workers.story.people import Addresses, Cashier, Driver, Forecourt, StoryError

VICTIMS = ("worker", "api", "gateway", "client", "postgres")
POINTS = (1, 3, 5, 6, 7, 8, 9)
"""One nozzle of each fuelling point: a fuelling point runs one fill at a time."""
POSTPAID = frozenset({3, 6, 7, 8})
_PAUSE_S = (1.5, 6.0)
_FILL_S = 150
_SETTLE_S = 180


@dataclass
class Chaos:
    """One run: people at every fuelling point, and somebody who pulls plugs."""

    stack: EmbeddedStack
    engine: Engine
    seed: int
    fills: int
    deadline: float
    done: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.addresses = Addresses(
            api=self.stack.api_url, wechat=self.stack.wechat_url, station=self.stack.station_url
        )
        self._left = self.fills
        self._lock = threading.Lock()
        self._over = threading.Event()

    def run(self) -> Comparison:
        """Fill and kill until all fills are through, then let everything settle and compare."""
        killer = threading.Thread(target=self._kill, name="killer")
        killer.start()
        try:
            with ThreadPoolExecutor(len(POINTS)) as pool:
                list(pool.map(self._stand_at, POINTS))
        finally:
            self._over.set()
            killer.join()
        for name in VICTIMS:
            self.stack.wait_ready(name)
        self._settle()
        return compare(self.engine, self.addresses)

    def _take(self) -> bool:
        with self._lock:
            if self._left <= 0 or time.monotonic() > self.deadline:
                return False
            self._left -= 1
            return True

    def _stand_at(self, nozzle: int) -> None:
        """Customers at one fuelling point, one after the other."""
        dice = random.Random(f"{self.seed}:{nozzle}")
        driver = Driver(self.addresses, patience_s=90)
        cashier = Cashier(self.addresses)
        forecourt = Forecourt(self.addresses)
        while self._take():
            quantity = dice.randrange(200, 3_000) * 10
            try:
                if nozzle in POSTPAID and dice.random() < 0.5:
                    how = self._postpaid(driver, cashier, forecourt, nozzle, quantity, dice)
                else:
                    how = self._prepaid(driver, forecourt, nozzle, quantity, dice)
            except StoryError as error:
                how = "trouble"
                self.troubles.append(f"nozzle {nozzle}: {error}")
            self.done[how] += 1

    def _prepaid(
        self, driver: Driver, forecourt: Forecourt, nozzle: int, quantity: int, dice: random.Random
    ) -> str:
        status, started = driver.start(nozzle, dice.choice((5_000, 10_000, 20_000, 30_000)))
        if status != 201:
            time.sleep(1)
            return f"refused {started.get('code', status)}"
        driver.confirm(started["pay"])
        order = driver.wait_for(started["order_no"], "authorised", timeout_s=_FILL_S)
        if order["status"] == "authorised":
            forecourt.fill(nozzle, quantity_milli=quantity, prepaid=True)
            order = driver.wait_for(started["order_no"], "completed", timeout_s=_FILL_S)
        return f"prepaid {order['status']}"

    def _postpaid(
        self,
        driver: Driver,
        cashier: Cashier,
        forecourt: Forecourt,
        nozzle: int,
        quantity: int,
        dice: random.Random,
    ) -> str:
        forecourt.fill(nozzle, quantity_milli=quantity, prepaid=False)
        until = time.monotonic() + _FILL_S
        sale = None
        while sale is None and time.monotonic() < until:
            sale = next((o for o in cashier.unpaid() if o["nozzle_no"] == nozzle), None)
            time.sleep(0.1)
        if sale is None:
            raise StoryError(f"the sale of nozzle {nozzle} did not appear")
        if dice.random() < 0.4:
            cashier.take_cash(sale["order_no"], sale["due_fen"])
        else:
            pay = driver.pay_sale(sale["order_no"])
            if pay["state"] == "waiting":
                driver.confirm(pay)
        order = cashier.wait_for(sale["order_no"], "completed", timeout_s=_FILL_S)
        return f"post-paid {order['status']}"

    def _kill(self) -> None:
        dice = random.Random(f"{self.seed}:killer")
        while not self._over.wait(dice.uniform(*_PAUSE_S)):
            victim = dice.choice(VICTIMS)
            try:
                self.stack.wait_ready(victim, 30)
                self.stack.kill(victim)
                self.kills[victim] += 1
            except StackError as error:
                self.troubles.append(f"killer: {error}")

    def _settle(self) -> None:
        until = time.monotonic() + _SETTLE_S
        while time.monotonic() < until:
            try:
                if not open_orders(self.engine):
                    return
            except SQLAlchemyError as error:
                self.troubles.append(f"settling: {type(error).__name__}")
            time.sleep(0.5)


def main() -> int:
    """The command; 0 when nothing is lost, doubled, or open."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20_260_101)
    parser.add_argument("--minutes", type=float, default=12, help="no new fill after this")
    parser.add_argument("--keep", action="store_true", help="keep the data folder")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="jz-chaos-"))
    begun = time.monotonic()
    options = StackOptions(rate=1000, instant=True, free_ports=True)
    try:
        with EmbeddedStack(folder, options=options, say=lambda _line: None) as stack:
            engine = make_engine(stack.database_url, pool_size=3)
            chaos = Chaos(stack, engine, arguments.seed, arguments.fills, begun + arguments.minutes * 60)
            found = chaos.run()
            print(table(found))
            print("fills:", dict(sorted(chaos.done.items())))
            print("kill -9:", dict(sorted(chaos.kills.items())), f"in {time.monotonic() - begun:.0f} s")
            for trouble in chaos.troubles:
                print("trouble:", trouble)
            engine.dispose()
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print("data:", folder)
    return 0 if found.is_equal and not chaos.troubles else 1


if __name__ == "__main__":
    sys.exit(main())
