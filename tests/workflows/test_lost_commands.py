"""Temporal is killed with -9 while the answer of a person's committed step is on its way, and nobody repeats the command.

Until a workflow task is completed an update of it is in the server's memory only; what the step has committed stays.
"""

import asyncio
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from temporalio.client import Client

from config.payload_converter import PYDANTIC
from contracts.fill import ResolveAction
from db.unit_of_work import SqlTransaction, unit_of_work
from domain import ids
from tests.environments import add_search_attributes, binary
from tests.workflows import harness as harness_module
from tests.workflows.harness import Handle, Harness, running
from workers.embedded.ports import any_free
from workers.embedded.temporal import DYNAMIC_CONFIG

pytestmark = pytest.mark.timeout(120)


class Server:
    """A dev server on disk that a test kills and starts again."""

    def __init__(self, folder: Path) -> None:
        self._port, self._file = any_free(), folder / "temporal.db"
        self._child: subprocess.Popen[bytes] | None = None

    async def start(self) -> Client:
        """Start it, and return a client as soon as it answers."""
        extra = [part for one in DYNAMIC_CONFIG for part in ("--dynamic-config-value", one)]
        command = [binary("temporal"), "server", "start-dev", "--headless", "--ip", "127.0.0.1"]
        command += [
            "--port",
            str(self._port),
            "--db-filename",
            str(self._file),
            "--log-level",
            "never",
            *extra,
        ]
        self._child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(150):
            try:
                client = await Client.connect(f"127.0.0.1:{self._port}", data_converter=PYDANTIC)
                await add_search_attributes(client)
            except RuntimeError:
                await asyncio.sleep(0.2)
            else:
                return client
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()


@dataclass
class Held:
    """Transactions that commit, and whose worker then hears of it only when the test lets it."""

    is_armed: bool = False
    committed: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def wrap(
        self, begin: Callable[[], AbstractContextManager[SqlTransaction]]
    ) -> Callable[[], AbstractContextManager[SqlTransaction]]:
        """Return the unit of work that holds the thread after a commit, once, when armed."""

        @contextmanager
        def held() -> Iterator[SqlTransaction]:
            with begin() as tx:
                yield tx
            if self.is_armed:
                self.is_armed = False
                self.committed.set()
                self.released.wait(60)

        return held


@dataclass
class World:
    """A server that dies, orders on it, and a transaction that is held."""

    server: Server
    harness: Harness
    held: Held

    async def lose(self, handle: Handle, action: ResolveAction, amount_fen: int | None = None) -> None:
        """Decide something, and lose the server after the first commit; nobody asks a second time."""
        self.held.is_armed = True
        sending = asyncio.create_task(self.harness.resolve(handle, action, amount_fen=amount_fen))
        assert await asyncio.to_thread(self.held.committed.wait, 20)
        self.server.kill()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        self.held.released.set()
        await asyncio.sleep(1)
        await self.server.start()


@pytest.fixture
async def world(
    tmp_path: Path, fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """A server on disk with a running worker."""
    held, server = Held(), Server(tmp_path)
    monkeypatch.setattr(harness_module, "unit_of_work", lambda *parts: held.wrap(unit_of_work(*parts)))
    try:
        async with running(await server.start(), fresh_database_url) as harness:
            yield World(server, harness, held)
    finally:
        server.kill()


async def run_knows(handle: Handle, **expected: int | str) -> None:
    """Wait until the run knows of its order what the row says."""
    for _ in range(60):
        status = await handle.query("status")
        if all(status[name] == value for name, value in expected.items()):
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"the run still believes {status}")


@pytest.mark.feature("000-3")
async def test_a_decided_amount_can_be_paid(world: World) -> None:
    sale = world.harness.sale(price_fen_per_unit=999, amount_fen=19_980)
    handle = await world.harness.start_sale(sale)
    order_no = ids.order_no_of_sale(sale.natural_key)
    await world.harness.until(order_no, "unpaid", needs="price_mismatch")
    await world.lose(handle, ResolveAction.CHARGE_AMOUNT, amount_fen=14_700)
    await run_knows(handle, charge_fen=14_700, needs_person="")
    assert (await world.harness.cash(handle, 14_700)).ok
    await handle.result()
    world.harness.assert_money_closed(order_no)


@pytest.mark.feature("000-3")
async def test_a_collected_shortfall_is_not_written_off_too(world: World) -> None:
    request, handle = await world.harness.start_authorised()
    sale = world.harness.sale(order_no=request.order_no, quantity_milli=30_000, amount_fen=22_050)
    await world.harness.complete(handle, sale)
    await world.harness.until(request.order_no, "dispensed", needs="shortfall")
    await world.lose(handle, ResolveAction.COLLECT_CASH)
    assert (await asyncio.wait_for(handle.result(), 30)).status == "completed"
    assert world.harness.balance("1100", request.order_no) == 0
