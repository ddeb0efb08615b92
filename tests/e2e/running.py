"""A whole running stack for tests: its people, its database, and waiting with a limit."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests
from sqlalchemy import Engine, text

from db.session import make_engine
from workers.embedded.services import StackOptions
from workers.embedded.stack import EmbeddedStack
from workers.story.ledgers import Comparison, compare, open_orders
from workers.story.people import Addresses, Cashier, Driver, Forecourt, Json, Person, Screen

Found = TypeVar("Found")


def clean_environment() -> dict[str, str]:
    """This process's environment without settings that would lead a stack elsewhere."""
    theirs = ("DATABASE", "TEMPORAL", "JIAZHU_")
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)}


def until(look: Callable[[], Found | None], what: str, timeout_s: float = 30) -> Found:
    """Look until there is something; fails with `what` when there is nothing in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain: {what}"
        time.sleep(0.05)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes whose command line or environment names the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
            dead = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if process.pid != os.getpid() and not dead and any(str(folder) in word for word in words):
            found.append(process)
    return found


@dataclass
class Running:
    """A running stack with its database."""

    stack: EmbeddedStack
    engine: Engine
    _staff: dict[str, Cashier] = field(default_factory=dict)
    """Who is signed in: a person signs in once, logins are rate-limited."""

    @property
    def addresses(self) -> Addresses:
        """Where its interfaces are."""
        return Addresses(api=self.stack.api_url, wechat=self.stack.wechat_url, station=self.stack.station_url)

    def driver(self, openid: str = "") -> Driver:
        """A driver of their own."""
        return Driver(self.addresses, openid)

    def cashier(self, login: str = "cashier1") -> Cashier:
        """A member of the staff."""
        if login not in self._staff:
            self._staff[login] = Cashier(self.addresses, login)
        return self._staff[login]

    def screen(self, kind: str = "kiosk") -> Screen:
        """A terminal of the demo station."""
        number = self.rows("SELECT id FROM terminal WHERE kind = :kind", kind=kind)[0]["id"]
        return Screen(self.addresses, kind, int(number))

    def forecourt(self) -> Forecourt:
        """The dispensers."""
        return Forecourt(self.addresses)

    def rows(self, sql: str, **values: Any) -> list[Json]:
        """Rows of a query."""
        with self.engine.connect() as db:
            return [dict(row) for row in db.execute(text(sql), values).mappings()]

    def write(self, sql: str, **values: Any) -> None:
        """Change the database as an operator's set-up would."""
        with self.engine.begin() as db:
            db.execute(text(sql), values)

    def get(self, person: Person, path: str) -> bytes:
        """The bytes of something that is no JSON, such as a picture."""
        answer = requests.get(self.stack.api_url + path, headers=person.line.headers, timeout=10)
        answer.raise_for_status()
        return answer.content

    def sell(self, nozzle_no: int, quantity_milli: int) -> Json:
        """A post-paid customer fills and hangs up; returns the unpaid sale as the counter sees it."""
        cashier = self.cashier()
        known = {one["order_no"] for one in cashier.unpaid()}
        self.forecourt().fill(nozzle_no, quantity_milli=quantity_milli, prepaid=False)

        def fresh() -> Json | None:
            mine = (o for o in cashier.unpaid() if o["nozzle_no"] == nozzle_no)
            return next((o for o in mine if o["order_no"] not in known), None)

        return until(fresh, f"the unpaid sale of nozzle {nozzle_no}")

    def authorised(self, driver: Driver, nozzle_no: int, amount_fen: int) -> str:
        """Start and pay a prepaid order; returns its number when the dispenser is released."""
        status, started = driver.start(nozzle_no, amount_fen)
        assert status == 201, started
        driver.confirm(started["pay"])
        order = driver.wait_for(started["order_no"], "authorised")
        assert order["status"] == "authorised", order
        return str(started["order_no"])

    def compared(self, timeout_s: float = 30) -> Comparison:
        """The three ledgers, once no order is open; fails with the orders that stay open."""
        deadline = time.monotonic() + timeout_s
        while (still := open_orders(self.engine)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert still == [], f"open after {timeout_s} s"
        return compare(self.engine, self.addresses)


@contextmanager
def running_stack(rate: int = 400) -> Iterator[Running]:
    """Start a stack in a folder of its own; stop it and leave nothing."""
    folder = Path(tempfile.mkdtemp(prefix="jz-e2e-"))
    options = StackOptions(rate=rate, free_ports=True)
    try:
        with EmbeddedStack(folder, options=options, environment=clean_environment()) as stack:
            engine = make_engine(stack.database_url, pool_size=3)
            try:
                yield Running(stack, engine)
            finally:
                engine.dispose()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
