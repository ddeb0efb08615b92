"""Runs FillAndPay against a real database and a real Temporal server, with fakes for channel and dispenser."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine, text
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker, WorkflowRunner

from activities.dispensers import DispenserActivities
from contracts import names
from contracts.fill import (
    CancelCommand,
    CashCommand,
    CommandAnswer,
    FillInput,
    FillResult,
    PayAnswer,
    PayCommand,
    ResolveAction,
    ResolveCommand,
    StartAnswer,
    StartFill,
)
from contracts.payment import PaymentReported
from contracts.station import EndReason, SaleRecord
from db.crypto import ColumnCipher
from db.repositories.asked import refunds_asked
from db.seed import STATION, seed
from db.session import make_engine
from db.unit_of_work import unit_of_work
from domain import ids
from domain.payment import PayMethod
from domain.quantity import Unit
from tests.fakes.channel import FakeChannel
from tests.fakes.dispensers import FakeStationCommands
from workers.bootstrap import fill_activities
from workers.registry import FILL, activity_methods
from workers.sandboxing import workflow_runner
from workflows.fill_and_pay import FillAndPay

_counter = itertools.count(1)
OPENID = "o_harness_driver"
CIPHER = ColumnCipher({"test": bytes(32)}, bytes(32))
Answer = TypeVar("Answer")
Handle = WorkflowHandle[FillAndPay, FillResult]


@dataclass
class TestClock:
    """A clock that a test moves; starts at the present so that seeded prices are in force."""

    __test__ = False
    offset: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        """Return the shifted present."""
        return datetime.now(tz=UTC) + self.offset


@dataclass
class Harness:
    """One worker, one database, one channel, one station."""

    client: Client
    engine: Engine
    clock: TestClock
    channel: FakeChannel
    stations: FakeStationCommands
    driver_id: int
    queue: str
    activities: list[Callable[..., Any]]
    pool: ThreadPoolExecutor
    task_timeout: timedelta = timedelta(seconds=10)
    """Temporal's own default; how long a task is waited for that a dead worker took along."""
    handles: list[Handle] = field(default_factory=list)

    def worker(self, runner: WorkflowRunner | None = None, *, cached: bool = True) -> Worker:
        """Return a worker of this harness's queue; a dead worker's sticky queue is left after a second."""
        return Worker(
            self.client,
            task_queue=self.queue,
            workflows=FILL.workflows,
            activities=self.activities,
            activity_executor=self.pool,
            workflow_runner=runner or workflow_runner(),
            max_cached_workflows=1000 if cached else 0,
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
        )

    def on_own_queue(self) -> "Harness":
        """Return the same fakes on a queue that nobody serves yet, for workers that die."""
        queue = f"fill-test-{next(_counter)}"
        return replace(self, queue=queue, handles=[], task_timeout=timedelta(seconds=2))

    def fresh(self) -> None:
        """Forget what an earlier test arranged at channel, station and clock."""
        self.clock.offset = timedelta()
        vars(self.channel).update(vars(FakeChannel()))
        vars(self.stations).update(vars(FakeStationCommands()))

    async def end_all(self) -> None:
        """Terminate every order that a test left open.

        An order without a worker would hold the time-skipping server's clock for ever: its next workflow task is
        never taken, and time is not skipped while a task waits. Their unpaid orders would count against the driver.
        """
        for handle in self.handles:
            try:
                await handle.terminate("end of the test")
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
        self.handles.clear()
        with self.engine.begin() as db:
            db.execute(text("UPDATE fuel_order SET status = 'cancelled' WHERE status = 'awaiting_payment'"))

    def another_driver(self) -> int:
        """Return a driver of its own: one driver may have few unpaid orders."""
        return _new_driver(self.engine)

    def start_request(self, *, nozzle: int = 1, amount_fen: int = 20_000, **changes: Any) -> StartFill:
        """Return a valid start with a fresh order number."""
        self.free_points()
        values: dict[str, Any] = {
            "order_no": ids.order_no_of_start("driver:1", f"k{next(_counter)}"),
            "station_code": STATION,
            "nozzle_no": nozzle,
            "amount_fen": amount_fen,
            "price_fen_per_unit": 735,
            "price_version": 1,
            "method": PayMethod.WECHAT_JSAPI,
            "body_hash": "h",
            "driver_id": self.driver_id,
        }
        return StartFill(**{**values, **changes})

    async def start(self, request: StartFill) -> tuple[StartAnswer, Handle]:
        """Start by update-with-start, as the API does."""
        operation = WithStartWorkflowOperation(
            FillAndPay.run,
            FillInput(order_no=request.order_no, start=request),
            id=ids.fill_workflow_id(request.order_no),
            task_queue=self.queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            task_timeout=self.task_timeout,
        )
        answer = await self.client.execute_update_with_start_workflow(
            names.UPDATE_START,
            request,
            id=f"start-{request.order_no}",
            start_workflow_operation=operation,
            result_type=StartAnswer,
        )
        handle = await operation.workflow_handle()
        self.handles.append(handle)
        return answer, handle

    async def start_paid(self, **kwargs: Any) -> tuple[StartFill, Handle]:
        """Start a prepaid order and let the customer pay."""
        request = self.start_request(**kwargs)
        _, handle = await self.start(request)
        await self.pay_and_report(handle, request.order_no)
        return request, handle

    async def start_authorised(self, **kwargs: Any) -> tuple[StartFill, Handle]:
        """Start a prepaid order and go on until the dispenser has the preset."""
        request, handle = await self.start_paid(**kwargs)
        await self.until(request.order_no, "authorised")
        return request, handle

    async def pay_and_report(self, handle: Handle, order_no: str, attempt: int = 1) -> None:
        """The customer pays and the channel reports it."""
        number = ids.out_trade_no(order_no, attempt)
        self.channel.customer_pays(number)
        await self.report(handle, number)

    async def report(self, handle: Handle, number: str) -> None:
        """The channel's notification reaches the workflow."""
        await handle.signal(FillAndPay.payment_reported, PaymentReported(out_trade_no=number))

    def sale(self, *, order_no: str | None = None, **changes: Any) -> SaleRecord:
        """Return a sale of nozzle 1 (20.00 L of 92# at 7.35) with a natural key of its own."""
        number = next(_counter)
        values: dict[str, Any] = {
            "natural_key": f"{STATION}:1:33:{number}:{number}",
            "station_code": STATION,
            "node": 1,
            "fp": 0x21,
            "nozzle": 1,
            "sequence": number,
            "unit": Unit.LITRE,
            "quantity_milli": 20_000,
            "amount_fen": 14_700,
            "price_fen_per_unit": 735,
            "end_reason": EndReason.CUSTOMER_STOP,
            "recorded_at": self.clock(),
            "order_no": order_no,
        }
        return SaleRecord(**{**values, **changes})

    async def until(self, order_no: str, *statuses: str, needs: str | None = None) -> dict[str, Any]:
        """Wait until the order row has one of these statuses (and this need); fails after 15 s."""
        found: dict[str, Any] = {}
        for _ in range(600):
            rows = self.rows("SELECT * FROM fuel_order WHERE order_no = :no", no=order_no)
            found = rows[0] if rows else {}
            fits = not statuses or found.get("status") in statuses
            if found and fits and (needs is None or found["needs_person"] == needs):
                return found
            await asyncio.sleep(0.025)
        raise AssertionError(f"order {order_no} is {found.get('status')} {found.get('needs_person')!r}")

    async def complete(self, handle: Handle, sale: SaleRecord) -> None:
        """The dispenser's sale reaches the workflow."""
        await handle.signal(FillAndPay.fill_completed, sale)

    def assert_money_closed(self, order_no: str) -> None:
        """Nothing is left in prepayments, refunds payable and receivables, and the ledger agrees with the channel."""
        for account in ("2070", "2040", "1100"):
            assert self.balance(account, order_no) == 0, account
        assert self.balance("1010%", order_no) == self.channel.net_of(order_no)

    async def start_sale(self, sale: SaleRecord) -> Handle:
        """The gateway opens a post-paid order."""
        order_no = ids.order_no_of_sale(sale.natural_key)
        handle = await self.client.start_workflow(
            FillAndPay.run,
            FillInput(order_no=order_no, sale=sale),
            id=ids.fill_workflow_id(order_no),
            task_queue=self.queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            task_timeout=self.task_timeout,
        )
        self.handles.append(handle)
        return handle

    async def pay(
        self, handle: Handle, method: PayMethod, screen: str = "phone", **changes: Any
    ) -> PayAnswer:
        """Ask to pay from a screen."""
        driver = self.driver_id if method is PayMethod.WECHAT_JSAPI else None
        command = PayCommand(method=method, screen=screen, driver_id=driver, **changes)
        return await self._update(handle, names.UPDATE_PAY, command, PayAnswer)

    async def cash(self, handle: Handle, received_fen: int) -> CommandAnswer:
        """A cashier takes cash."""
        command = CashCommand(cashier_id=1, received_fen=received_fen)
        return await self._update(handle, names.UPDATE_TAKE_CASH, command, CommandAnswer)

    async def cancel(self, handle: Handle, reason: str = "顾客改主意") -> CommandAnswer:
        """A cashier cancels."""
        command = CancelCommand(actor="staff:1", reason=reason)
        return await self._update(handle, names.UPDATE_CANCEL, command, CommandAnswer)

    async def resolve(self, handle: Handle, action: ResolveAction, **changes: Any) -> CommandAnswer:
        """A person decides; cash they hand back is the sum that the order asks for, as the API looks it up."""
        if action is ResolveAction.CASH_RETURNED and "refund_nos" not in changes:
            changes["refund_nos"] = self.counted_out(handle.id.partition("-")[2], changes.get("need", ""))
        actor = changes.pop("actor", "staff:1")
        command = ResolveCommand(actor=actor, action=action, note="已核对", **changes)
        return await self._update(handle, names.UPDATE_RESOLVE, command, CommandAnswer)

    def counted_out(self, order_no: str, need: str = "") -> tuple[str, ...]:
        """Return the refunds that an order asks cash for now, or under a need."""
        with self.engine.connect() as db:
            asked = refunds_asked(db, {order_no: need or self.order(order_no)["needs_person"]})
        return tuple(one.out_refund_no for one in asked[order_no])

    async def _update(self, handle: Handle, name: str, command: Any, answer: type[Answer]) -> Answer:
        """Send an update by its name, each under an id of its own, and as often as a server asks to try again."""
        update_id = f"{name}-{next(_counter)}"
        refused = 0
        while True:
            try:
                found: Answer = await handle.execute_update(name, command, id=update_id, result_type=answer)
                return found
            except RPCError as error:
                refused += 1
                if error.status is not RPCStatusCode.FAILED_PRECONDITION or refused == 4:
                    raise
            await asyncio.sleep(0.5)

    def row(self, sql: str, **values: Any) -> dict[str, Any]:
        """Return the first row of a query."""
        with self.engine.connect() as db:
            return dict(db.execute(text(sql), values).mappings().one())

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Return all rows of a query."""
        with self.engine.connect() as db:
            return [dict(r) for r in db.execute(text(sql), values).mappings()]

    def order(self, order_no: str) -> dict[str, Any]:
        """Return an order row."""
        return self.row("SELECT * FROM fuel_order WHERE order_no = :no", no=order_no)

    def balance(self, account: str, order_no: str) -> int:
        """Return debit minus credit of an account for one order, in fen."""
        found = self.row(
            "SELECT coalesce(sum(CASE e.side WHEN 'D' THEN e.amount_fen ELSE -e.amount_fen END), 0)::bigint AS n"
            " FROM ledger_entry e JOIN ledger_journal j ON j.id = e.journal_id"
            " WHERE j.order_no = :no AND e.account LIKE :account",
            no=order_no,
            account=account,
        )
        return int(found["n"])

    def free_points(self) -> None:
        """Let go of every fuelling point that an earlier test's order left behind, and say the station is alive."""
        with self.engine.begin() as db:
            db.execute(text("UPDATE fuelling_point SET holder_order_no = NULL, held_until = NULL"))
        self.station_seen()

    def station_seen(self, at: datetime | None = None) -> None:
        """Say when the station was last heard of."""
        with self.engine.begin() as db:
            db.execute(
                text(
                    "INSERT INTO station_link (station_code, last_seen_at, boot_epoch, outbox_depth)"
                    " VALUES (:code, :at, 0, 0) ON CONFLICT (station_code) DO UPDATE SET last_seen_at = :at"
                ),
                {"code": STATION, "at": at or self.clock()},
            )


def _new_driver(engine: Engine) -> int:
    with engine.begin() as db:
        found = db.execute(
            text(
                "INSERT INTO driver (openid_cipher, openid_index, created_at) VALUES (:o, :i, now()) RETURNING id"
            ),
            {"o": CIPHER.encrypt("driver", "openid", OPENID), "i": f"i{next(_counter)}"},
        ).scalar_one()
    return int(found)


@asynccontextmanager
async def running(client: Client, database_url: str, *, fill_worker: bool = True) -> AsyncIterator[Harness]:
    """Run both workers over a fresh set of fakes; without `fill_worker` the test starts and stops its own."""
    engine = make_engine(database_url, pool_size=20)
    seed(engine, datetime.now(tz=UTC) - timedelta(hours=1))
    driver_id = _new_driver(engine)
    clock, channel, stations = TestClock(), FakeChannel(), FakeStationCommands()
    instances = fill_activities(unit_of_work(engine, CIPHER), {"wechat": channel, "cash": channel}, clock)
    with ThreadPoolExecutor(20) as pool:
        harness = Harness(
            client=client,
            engine=engine,
            clock=clock,
            channel=channel,
            stations=stations,
            driver_id=driver_id,
            queue=f"fill-test-{next(_counter)}",
            activities=activity_methods(instances),
            pool=pool,
        )
        gateway = Worker(
            client,
            task_queue=names.gateway_task_queue(0),
            activities=activity_methods([DispenserActivities(stations)]),
        )
        async with AsyncExitStack() as workers:
            await workers.enter_async_context(gateway)
            if fill_worker:
                await workers.enter_async_context(harness.worker())
            yield harness
            await harness.end_all()
    engine.dispose()


async def refusal(update: Awaitable[PayAnswer | CommandAnswer]) -> str:
    """Return why an order refused an update."""
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await update
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause.type or ""
