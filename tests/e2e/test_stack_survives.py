"""Everything dies at once, `make up` is started again, and the orders of before end right."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from db.session import make_engine
from tests.e2e.running import clean_environment, processes_of, until
from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.process import ROOT
from workers.story.ledgers import compare, open_orders
from workers.story.people import Addresses, Cashier, Driver, Forecourt, Json

pytestmark = pytest.mark.timeout(300)
_START_S = 90
_STOP_S = 30


class Up:
    """`make up` as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []
        command = [sys.executable, "-m", "workers.up", "--data", str(folder), "--rate", "400", "--free-ports"]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def says(self, words: str, timeout_s: float = _START_S) -> None:
        """Wait until it has said the words; fails at once when it ended without."""

        def look() -> bool | None:
            if any(words in line for line in self.lines):
                return True
            assert self.process.poll() is None, "".join(self.lines)
            return None

        until(look, f"{words!r} in: {''.join(self.lines)}", timeout_s)

    def addresses(self) -> Addresses:
        """Where its interfaces are, as it wrote them down."""
        ports = json.loads((self.folder / "stack.json").read_text(encoding="utf-8"))["ports"]
        urls = {name: f"http://127.0.0.1:{ports[name]}" for name in ("api", "wechat", "station")}
        return Addresses(**urls)

    def ends(self) -> int:
        """Wait for its end; returns the status."""
        status = self.process.wait(_STOP_S)
        self._reader.join(5)
        return status


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder; what a failed test left running is ended."""
    path = Path(tempfile.mkdtemp(prefix="jz-up-"))
    yield path
    _kill(processes_of(path))
    shutil.rmtree(path, ignore_errors=True)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _kill_everything(up: Up) -> int:
    """kill -9 of the supervisor and of every process that it started; returns how many there were."""
    found = processes_of(up.folder)
    up.process.kill()  # first, or it would start the others again
    _kill(found)
    up.process.wait(_STOP_S)
    until(lambda: processes_of(up.folder) == [], "everything is dead", 15)
    return len(found)


def _start(driver: Driver, nozzle_no: int) -> Json:
    status, started = driver.start(nozzle_no, 20_000)
    assert status == 201, started
    return started


@pytest.mark.feature("000-3")
@pytest.mark.feature("003-D2")
def test_a_second_start_finishes_the_orders_of_the_first(folder: Path) -> None:
    up = Up(folder)
    up.says("已启动")
    addresses = up.addresses()
    driver, cashier, forecourt = Driver(addresses), Cashier(addresses), Forecourt(addresses)
    released, unconfirmed = _start(driver, 1), _start(driver, 5)
    driver.confirm(released["pay"])
    assert driver.wait_for(released["order_no"], "authorised")["status"] == "authorised"
    forecourt.fill(3, quantity_milli=8_000, prepaid=False)
    sale = until(lambda: next(iter(cashier.unpaid()), None), "the unpaid sale")

    assert _kill_everything(up) > len(("postgres", "temporal", "wechat", "station", "worker", "gateway"))

    again = Up(folder)
    again.says("已启动")
    assert again.addresses() == addresses
    # The dispensers had a power cut too and forgot the release: no fuel, so the money goes back by itself.
    done = driver.wait_for(released["order_no"], "refunded")
    assert (done["status"], done["refunded_fen"]) == ("refunded", 20_000)
    driver.confirm(unconfirmed["pay"])
    assert driver.wait_for(unconfirmed["order_no"], "authorised")["status"] == "authorised"
    forecourt.fill(5, quantity_milli=20_000, prepaid=True)
    done = driver.wait_for(unconfirmed["order_no"], "completed")
    assert (done["charge_fen"], done["refunded_fen"]) == (14_100, 5_900)
    assert [one["order_no"] for one in cashier.unpaid()] == [sale["order_no"]]
    cashier.take_cash(sale["order_no"], sale["due_fen"])
    assert cashier.wait_for(sale["order_no"], "completed")["paid_method"] == "cash"

    engine = make_engine(EmbeddedPostgres(folder / "postgres").url(), pool_size=1)
    try:
        until(lambda: not open_orders(engine), "every order ended")
        found = compare(engine, addresses)
    finally:
        engine.dispose()
    assert found.is_equal, found.differences
    assert found.our_sales == 2
    again.process.send_signal(signal.SIGTERM)
    assert again.ends() == 0, "".join(again.lines)
    assert processes_of(folder) == []


def test_ctrl_c_leaves_nothing_behind(folder: Path) -> None:
    up = Up(folder)
    up.says("已启动")
    assert len(processes_of(folder)) > 8
    up.process.send_signal(signal.SIGINT)
    assert up.ends() == 0, "".join(up.lines)
    assert "everything has ended" in up.lines[-1]
    assert processes_of(folder) == []
