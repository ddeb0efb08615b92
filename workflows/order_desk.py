"""What FillAndPay knows of its order: the view of the row, and the transactions that change it, one at a time.

Every transaction returns the new view; the lock keeps an older answer from overwriting a newer one when an update
handler and the main line run at the same time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities import options
    from activities.order_money import OrderMoneyActivities
    from activities.order_opening import OrderOpeningActivities
    from activities.order_steps import OrderStepActivities
    from contracts.fill import CommandAnswer, PayCommand, ResolveCommand, StartFill
    from contracts.names import SearchAttribute
    from contracts.orders import (
        BeginAttempt,
        BegunAttempt,
        EndOrder,
        FlagOrder,
        LoadAttempt,
        LoadedAttempt,
        OpenedOrder,
        OpenOrder,
        OpenSale,
        OrderView,
        OwedRefund,
        OweRefund,
        PostedPayment,
        PostPayment,
        RecordAttempt,
        RecordAuthorised,
        RecordRefund,
        RenewRefund,
        ResolveShortfall,
        SettledSale,
        SettleSale,
    )
    from contracts.payment import PaymentOutcome, RefundOutcome, RefundRequest
    from contracts.station import SaleRecord
    from domain import policy
    from domain.order import OrderStatus

Request = TypeVar("Request")
Answer = TypeVar("Answer")

_STAGE = SearchAttributeKey.for_keyword(SearchAttribute.STAGE)
_NEEDS_PERSON = SearchAttributeKey.for_bool(SearchAttribute.NEEDS_PERSON)
_UNPLACED = "jiazhu_sales_unplaced_total"


class Describe(Protocol):
    """Returns what ops staff read about an order, or about a sale that cannot become one yet.

    `cancel_asked` when somebody asked Temporal to cancel its run.
    """

    def __call__(self, about: OrderView | SaleRecord, *, cancel_asked: bool = False) -> str:
        """Return the current details."""
        ...


async def command_in_history() -> None:
    """Wait until the command that is being handled stands in the run's history, before it changes anything.

    Temporal has an update in memory only until the task that took it is completed; a regular activity completes it. Else
    the server could die after a local activity had committed what a person decided, and the run never know of it.
    """
    info = workflow.current_update_info()
    await workflow.execute_activity_method(
        OrderStepActivities.take_command,
        info.id if info else "",
        **options.named(options.COMMAND, "收到人员指令"),
    )


class OrderStuckError(RuntimeError):
    """A transaction was refused for good: a defect in code or data, which somebody has to mend."""


class CommandCount:
    """Commands of each person that one run accepted; Temporal grants a run 2,000 updates for all its time."""

    def __init__(self) -> None:
        self._accepted: Counter[str] = Counter()

    def check(self, actor: str) -> None:
        """Refuse one command too many before it is accepted, so that it leaves no trace in the run's history.

        Raises ApplicationError. Called by validators, so it changes nothing.
        """
        if self._accepted[actor] >= policy.MOST_COMMANDS_OF_A_PERSON:
            raise ApplicationError("操作次数过多，请由其他人员处理", type="too_many_commands")

    def add(self, actor: str) -> None:
        """Count a command that was accepted."""
        self._accepted[actor] += 1


class OrderDesk:
    """The order's row, seen from the workflow."""

    def __init__(self, describe: Describe) -> None:
        self.view: OrderView | None = None
        self.unplaced: SaleRecord | None = None
        """The sale that should open the order, of a nozzle that nobody has set up yet."""
        self.unopened = ""
        """Why the order is not open, in words for people, once that is known; commands are refused with it."""
        self.lock = asyncio.Lock()
        self._describe = describe
        self._told_person = False
        self._cancel_asked = False

    @property
    def order(self) -> OrderView:
        """Return the view of an order that has been opened."""
        assert self.view is not None, "the order is not open"
        return self.view

    async def _run(self, method: Callable[[Any, Request], Answer], request: Request) -> Answer:
        """Run one transaction; a refusal that retrying cannot mend fails the workflow task, not the order.

        A local activity raises its own failure (ApplicationError), not an ActivityError around it: all are caught.
        The order then stays open and visible, and goes on by itself once the code or the data are mended.
        """
        try:
            return await workflow.execute_local_activity_method(method, request, **options.DATABASE)
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            raise OrderStuckError(f"{method.__name__}: {error.cause or error}") from error

    def _keep(self, view: OrderView) -> None:
        self.view, self.unplaced, self.unopened = view, None, ""
        if bool(view.needs_person) != self._told_person:
            self._told_person = bool(view.needs_person)
            self.tell(stage=True)

    def tell(self, *, stage: bool = False) -> None:
        """Refresh what ops staff read; with `stage` also the search attributes (an upsert costs a write, so seldom)."""
        about = self.view or self.unplaced
        if about is None:
            return
        workflow.set_current_details(self._describe(about, cancel_asked=self._cancel_asked))
        if stage:
            stages = [_STAGE.value_set(self.view.status.value)] if self.view else []
            workflow.upsert_search_attributes([*stages, _NEEDS_PERSON.value_set(self._told_person)])

    def cancel_ignored(self) -> None:
        """Tell ops staff that the run was asked to cancel and goes on: its money and its pump would be left behind."""
        workflow.logger.warning("a cancellation of the run is ignored: the order has a command for that")
        self._cancel_asked = True
        self.tell()

    async def open_prepaid(self, start: StartFill) -> OpenedOrder:
        """Open a prepaid order, or learn why not."""
        opened = await self._run(OrderOpeningActivities.open_order, OpenOrder(start=start))
        if opened.view is not None:
            self._keep(opened.view)
        else:
            self.unopened = "订单没有开立"
        return opened

    async def open_sale(self, order_no: str, sale: SaleRecord) -> bool:
        """Open a post-paid order from its sale; False when another order has the sale already.

        Fuel at a nozzle that nobody has set up is a person's matter; it is asked for again, ever more seldom.
        """
        ladder, asked = policy.PLACE_ASK_LADDER, 0
        while True:
            request = OpenSale(order_no=order_no, sale=sale)
            opened = await self._run(OrderOpeningActivities.open_sale, request)
            if opened.view is not None:
                self._keep(opened.view)
                return True
            if not opened.place_unknown:
                self.unopened = f"加注记录已属于订单 {opened.owner_order_no}"
                return False
            if self.unplaced is None:
                self._show_unplaced(sale)
            await workflow.sleep(policy.step(ladder, asked), summary="平台没有这支枪，到点再查")
            asked += 1

    def _show_unplaced(self, sale: SaleRecord) -> None:
        """Ask ops staff to set up the nozzle of a sale: there is no order yet that the console could show."""
        self.unplaced, self.unopened, self._told_person = sale, "平台没有这支枪，订单尚未开立", True
        workflow.logger.warning(
            "a sale of a nozzle that nobody has set up: %s node %d fp %d nozzle %d",
            *(sale.station_code, sale.node, sale.fp, sale.nozzle),
        )
        counter = workflow.metric_meter().create_counter(_UNPLACED, "Sales of nozzles that nobody has set up")
        counter.add(1, {"station": sale.station_code})
        self.tell(stage=True)

    async def begin_attempt(self, command_id: str, pay: PayCommand) -> BegunAttempt:
        """Add a payment attempt."""
        async with self.lock:
            request = BeginAttempt(order_no=self.order.order_no, command_id=command_id, pay=pay)
            begun = await self._run(OrderOpeningActivities.begin_attempt, request)
            self._keep(begun.view)
            return begun

    async def load_attempt(self, out_trade_no: str) -> LoadedAttempt:
        """Find an attempt of any order by its channel number."""
        return await self._run(OrderOpeningActivities.load_attempt, LoadAttempt(out_trade_no=out_trade_no))

    async def look_again(self, out_trade_no: str) -> None:
        """Read the order of an attempt anew: another run may have changed what a person is asked for."""
        async with self.lock:
            loaded = await self.load_attempt(out_trade_no)
            if loaded.view is not None:
                self._keep(loaded.view)

    def objection(self, command: ResolveCommand, needs: Collection[str] = ()) -> CommandAnswer | None:
        """Return why a decision is not carried out whatever it is: no reason given, or it was about another need.

        `needs` are what may be decided here; empty: what the order asks for now.
        """
        if not command.note.strip():
            code, message = "NOTE_MISSING", "请填写处理说明"
        elif command.need and command.need not in (needs or (self.order.needs_person,)):
            code, message = "CHANGED", "情况已变化，请刷新后再处理"
        else:
            return None
        return CommandAnswer(ok=False, status=self.order.status, code=code, message=message)

    async def record_attempt(self, outcome: PaymentOutcome, *, closed: bool = False) -> None:
        """Keep the code that a screen shows, or that an attempt failed or was closed."""
        await self._run(OrderMoneyActivities.record_attempt, RecordAttempt(outcome=outcome, closed=closed))

    async def post_payment(self, outcome: PaymentOutcome, *, cancelled: bool) -> PostedPayment:
        """Post confirmed money."""
        async with self.lock:
            request = PostPayment(order_no=self.order.order_no, outcome=outcome, cancelled=cancelled)
            posted = await self._run(OrderMoneyActivities.post_payment, request)
            self._keep(posted.view)
            return posted

    async def settle(
        self, sale: SaleRecord, *, charge_fen: int | None = None, actor: str = "system", note: str = ""
    ) -> SettledSale:
        """Settle the order by its sale."""
        async with self.lock:
            request = SettleSale(
                order_no=self.order.order_no, sale=sale, charge_fen=charge_fen, actor=actor, note=note
            )
            settled = await self._run(OrderMoneyActivities.settle_sale, request)
            self._keep(settled.view)
            return settled

    async def owe_refund(self, reason: str, actor: str = "system") -> OwedRefund:
        """Decide that all of the money goes back."""
        async with self.lock:
            request = OweRefund(order_no=self.order.order_no, reason=reason, actor=actor)
            owed = await self._run(OrderMoneyActivities.owe_refund, request)
            self._keep(owed.view)
            return owed

    async def record_refund(self, outcome: RefundOutcome, actor: str = "system", note: str = "") -> None:
        """Keep how a refund stands."""
        async with self.lock:
            request = RecordRefund(order_no=self.order.order_no, outcome=outcome, actor=actor, note=note)
            self._keep((await self._run(OrderMoneyActivities.record_refund, request)).view)

    async def renew_refund(self, out_refund_no: str) -> RefundRequest | None:
        """Ask for a closed refund's money under a new number; None when it is not closed."""
        async with self.lock:
            request = RenewRefund(order_no=self.order.order_no, out_refund_no=out_refund_no)
            owed = await self._run(OrderMoneyActivities.renew_refund, request)
            self._keep(owed.view)
            return owed.refund

    async def record_authorised(self) -> None:
        """Keep that the dispenser has the preset."""
        async with self.lock:
            request = RecordAuthorised(order_no=self.order.order_no)
            self._keep(await self._run(OrderStepActivities.record_authorised, request))

    async def flag(self, reason: str, actor: str = "system", note: str = "") -> None:
        """Ask for a person, or (empty) no longer; the same reason twice is one request."""
        async with self.lock:
            if self.order.needs_person != reason:
                request = FlagOrder(order_no=self.order.order_no, reason=reason, actor=actor, note=note)
                self._keep(await self._run(OrderStepActivities.flag_order, request))

    async def unflag(self, reason: str, actor: str = "system", note: str = "") -> None:
        """Ask for a person no longer for this reason; what somebody is asked for otherwise stays."""
        if self.order.needs_person != reason and not note:
            return
        async with self.lock:
            request = FlagOrder(
                order_no=self.order.order_no, reason="", clears=reason, actor=actor, note=note
            )
            self._keep(await self._run(OrderStepActivities.flag_order, request))

    async def end(self, status: OrderStatus, actor: str, reason: str) -> None:
        """End an order that nobody paid."""
        async with self.lock:
            request = EndOrder(order_no=self.order.order_no, status=status, actor=actor, reason=reason)
            self._keep(await self._run(OrderStepActivities.end_order, request))

    async def resolve_shortfall(self, *, collected: bool, actor: str, note: str) -> bool:
        """Post a person's decision about a shortfall; False when somebody was faster."""
        async with self.lock:
            if self.order.shortfall_fen == 0:
                return False
            request = ResolveShortfall(
                order_no=self.order.order_no, collected=collected, actor=actor, note=note
            )
            self._keep(await self._run(OrderStepActivities.resolve_shortfall, request))
            return True


class Background:
    """Tasks beside the main line (a surplus going back, a code being confirmed); the run ends after them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside the main line; its failure fails the workflow task at once, never silently."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)

    @property
    def is_idle(self) -> bool:
        """Return whether nothing runs beside the main line."""
        return not self._tasks

    async def beside(
        self, main_line: Coroutine[Any, Any, Answer], cancel_ignored: Callable[[], None]
    ) -> Answer:
        """Run the main line to its end; raises what it raises, or at once what a task beside it raised.

        Temporal's own cancellation is told to `cancel_ignored` and ends nothing: refunds and a released pump would
        be left behind. Termination stays possible; a worker that drops the run from its cache still can.
        """
        line = asyncio.create_task(main_line)
        ends: list[asyncio.Future[Any]] = [line, self._failure]
        is_asked = False
        while not line.done() and not self._failure.done():
            try:
                await workflow.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                if is_asked or workflow.cancellation_reason() is None:
                    line.cancel()
                    return await line
                is_asked = True
                cancel_ignored()
        if self._failure.done():
            self._failure.result()
        return await line


def attributes(order: OrderView, order_no: str, status: OrderStatus) -> TypedSearchAttributes:
    """Return the search attributes of an order's run at its start."""
    words = {
        SearchAttribute.OPERATOR: order.operator_code,
        SearchAttribute.STATION: order.station_code,
        SearchAttribute.STAGE: status.value,
        SearchAttribute.BUSINESS_NO: order_no,
    }
    pairs = [SearchAttributePair(SearchAttributeKey.for_keyword(key), word) for key, word in words.items()]
    return TypedSearchAttributes([*pairs, SearchAttributePair(_NEEDS_PERSON, False)])


def later(moment: datetime) -> bool:
    """Return whether workflow time has reached `moment`."""
    return workflow.now() >= moment


async def within(condition: Callable[[], bool], patience: timedelta | None, summary: str) -> bool:
    """Wait for a condition, at most so long; return whether it came true. The timeline shows `summary`."""
    try:
        await workflow.wait_condition(condition, timeout=patience, timeout_summary=summary)
    except TimeoutError:
        return False
    return True
