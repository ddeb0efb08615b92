"""Fill and pay: one order, from the driver's tap or the dispenser's sale to the receipt (docs/processes/fill-and-pay.md)."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from workflows.dispenser_desk import DispenserDesk
from workflows.order_desk import Background, OrderDesk, attributes, later, within
from workflows.payment_desk import PaymentDesk, Shut
from workflows.person_desk import PersonDesk, till_of
from workflows.refund_desk import RefundDesk
from workflows.wording import REFUSED_ZH, WAITS_FOR, details

with workflow.unsafe.imports_passed_through():
    from contracts import names
    from contracts.fill import (
        CancelCommand,
        CashCommand,
        CommandAnswer,
        FillInput,
        FillResult,
        FillStatus,
        PayAnswer,
        PayCommand,
        PayState,
        ResolveCommand,
        StartAnswer,
        StartFill,
        StartOutcome,
    )
    from contracts.payment import AttemptRef, PaymentReported
    from contracts.station import CommandResult, CommandState, SaleRecord
    from domain import ids, policy
    from domain.order import FillMode, OrderStatus

S = OrderStatus


@workflow.defn(name=names.FILL_AND_PAY)
class FillAndPay:
    """A driver fills, the right amount is taken exactly once, everybody who should know knows, whatever crashes.

    Prepaid: quote and hold -> money -> the dispenser is authorised with the preset -> its sale settles the money,
    the rest goes back. Post-paid: the sale opens the order, the first payment of any screen wins, a second one
    goes back. The run is a loop over the order's status; each status has one step, and a step ends when the
    status has changed. Commands of people arrive as updates, reports of devices and channels as signals.
    """

    @workflow.init
    def __init__(self, request: FillInput) -> None:
        self._input = request
        self._background = Background()
        self._desk = OrderDesk(details)
        self._refunds = RefundDesk(self._desk, self._background, has_all=True)
        self._payments = PaymentDesk(self._desk, self._background, self._refunds.owe)
        self._dispenser = DispenserDesk(self._desk, request.sale)
        self._people = PersonDesk(
            self._desk, self._payments, self._refunds, self._dispenser, self._background
        )
        self._start_answer: StartAnswer | None = None
        self._reports: list[PaymentReported] = []
        self._deadline: datetime | None = None
        self._steps: dict[OrderStatus, Callable[[], Awaitable[None]]] = {
            S.AWAITING_PAYMENT: self._await_payment,
            S.UNPAID: self._await_payment,
            S.PAID: self._authorise_dispenser,
            S.AUTHORISED: self._await_fill,
            S.DISPENSED: self._await_change,
            S.REFUNDING: self._await_change,
        }

    @workflow.run
    async def run(self, request: FillInput) -> FillResult:
        """Open the order, walk it to its end, close every loose end, and only then finish."""
        return await self._background.beside(self._walk(request), self._desk.cancel_ignored)

    async def _walk(self, request: FillInput) -> FillResult:
        if request.start is not None:
            if not await self._open_prepaid(request.start):
                await workflow.wait_condition(workflow.all_handlers_finished)
                return self._result()
        elif request.sale is not None:
            if not await self._desk.open_sale(request.order_no, request.sale):
                await workflow.wait_condition(workflow.all_handlers_finished)
                return self._result()
            self._people.flagged_sale = request.sale if self._desk.order.needs_person else None
        self._desk.tell()
        while not self._desk.order.status.is_final:
            await self._steps[self._desk.order.status]()
        await self._close_loose_ends()
        self._desk.tell(stage=True)
        return self._result()

    async def _open_prepaid(self, start: StartFill) -> bool:
        """Quote, hold and place the payment; False when the start was refused (nothing has changed then)."""
        opened = await self._desk.open_prepaid(start)
        if opened.view is None or opened.attempt is None:
            self._start_answer = opened.answer
            return False
        self._deadline = workflow.now() + policy.PAYMENT_WINDOW
        pay = await self._place(opened.attempt)
        outcome = StartOutcome.ACCEPTED
        if pay.state in (PayState.UNCERTAIN, PayState.FAILED):
            outcome, self._deadline = StartOutcome.PAYMENT_UNAVAILABLE, workflow.now()
        answer = opened.answer
        self._start_answer = StartAnswer(
            outcome=outcome,
            order_no=answer.order_no,
            price_fen_per_unit=answer.price_fen_per_unit,
            price_version=answer.price_version,
            amount_fen=answer.amount_fen,
            pay=pay,
            message="" if outcome is StartOutcome.ACCEPTED else "微信支付暂不可用，请稍后再试",
        )
        return True

    async def _place(self, ref: AttemptRef) -> PayAnswer:
        outcome = await self._payments.create(ref)
        return self._people.pay_answer(ref, outcome)

    async def _await_payment(self) -> None:
        """Wait for money, a report of it, the deadline, or the next look at an attempt nobody reported."""
        status, before = self._desk.order.status, self._desk.order.due_fen
        look, limit = self._payments.next_look(), self._limit()
        moments = [m for m in (look, limit) if m is not None]
        patience = max(min(moments) - workflow.now(), timedelta(0)) if moments else None
        needed = bool(self._desk.order.needs_person)

        def changed() -> bool:
            order = self._desk.order
            fresh = self._payments.next_look()
            return (
                bool(self._reports)
                or order.status is not status
                or order.due_fen != before
                or (needed and not order.needs_person)
                or (fresh is not None and (look is None or fresh < look))
            )

        if await within(changed, patience, "等付款，到点向渠道查询"):
            await self._handle_reports()
        elif limit is not None and later(limit):
            await self._out_of_time()
        else:
            await self._payments.look_at_due()

    def _limit(self) -> datetime | None:
        """Return when waiting for money ends (prepaid) or a person is asked (post-paid)."""
        if self._desk.order.mode is FillMode.PREPAID:
            return self._deadline
        if self._deadline is None:
            self._deadline = workflow.now() + policy.UNPAID_ATTENTION_AFTER
        return None if self._desk.order.needs_person else self._deadline

    async def _out_of_time(self) -> None:
        """Prepaid: close at the channel first, and only what that confirms expires (N17). Post-paid: ask a person."""
        if self._desk.order.mode is FillMode.POSTPAID:
            await self._desk.flag("unpaid_too_long")
            return
        shut = await self._payments.shut_all()
        if self._desk.order.status is not S.AWAITING_PAYMENT or shut is Shut.PAID:
            return
        if shut is Shut.CLOSED:
            await self._desk.end(S.EXPIRED, "system", "超时未付款")
            return
        pause = timedelta(seconds=20)
        if later(workflow.info().start_time + 2 * policy.PAYMENT_WINDOW):
            await self._desk.flag("close_unconfirmed")
            pause = policy.PAYMENT_QUERY_LADDER[-1]
        self._deadline = workflow.now() + pause

    async def _handle_reports(self) -> None:
        """Ask the channel about what it reported: the report is a hint, the query is the truth."""
        while self._reports:
            report = self._reports.pop(0)
            if report.out_refund_no:
                self._refunds.poke(report.out_refund_no)
            elif not self._payments.knows(report.out_trade_no):
                ref = await self._people.find_attempt(report.out_trade_no)
                if ref is not None:
                    await self._payments.look_reported(ref)

    async def _authorise_dispenser(self) -> None:
        """Release the dispenser; its sale may overtake the answer, and no answer is not a refusal."""
        if self._dispenser.sale is not None:
            await self._settle(self._dispenser.sale)
            return
        result = await self._dispenser.authorise()
        if self._dispenser.sale is not None:
            await self._settle(self._dispenser.sale)
        elif self._desk.order.status is not S.PAID:
            return
        elif result.state is CommandState.ACCEPTED:
            await self._desk.record_authorised()
            self._desk.tell(stage=True)
        elif result.state in (CommandState.REFUSED, CommandState.EXPIRED):
            why = REFUSED_ZH.get(result.code, "油机未能授权")
            await self._return_everything(f"{why}，全额退款")
        else:
            await self._desk.flag("dispenser_unanswered")
            await self._dispenser.wait_for_news()

    async def _await_fill(self) -> None:
        """Wait for the dispenser's sale as long as it takes; after a while a person is asked to look.

        Whoever has to decide something else first is done when the need is empty: then the while begins again.
        """
        needed = self._desk.order.needs_decision
        attention = None if needed else policy.FILL_ATTENTION_AFTER
        moved = await within(
            lambda: (
                self._dispenser.sale is not None
                or self._desk.order.status is not S.AUTHORISED
                or bool(self._reports)
                or (needed and not self._desk.order.needs_decision)
            ),
            attention,
            "等加注记录，到点请人查看",
        )
        await self._handle_reports()
        if not moved:
            await self._desk.flag("fill_not_reported")
        elif self._dispenser.sale is not None and self._desk.order.status is S.AUTHORISED:
            await self._settle(self._dispenser.sale)

    async def _settle(self, sale: SaleRecord) -> None:
        """Settle by the sale; a flagged one waits for a person's decision."""
        settled = await self._desk.settle(sale)
        if settled.refund is not None:
            self._refunds.owe(settled.refund)
        if settled.flagged:
            self._people.flagged_sale = sale
            status = self._desk.order.status
            while self._desk.order.status is status:
                await self._await_change()

    async def _await_change(self) -> None:
        """Wait while refunds run beside the main line or a person decides; fuel that came too late waits for neither."""
        status = self._desk.order.status
        if status is S.REFUNDING:
            self._let_go_of_sale()
        await workflow.wait_condition(
            lambda: (
                self._desk.order.status is not status
                or bool(self._reports)
                or bool(self._dispenser.late_sales)
            )
        )
        await self._handle_reports()
        await self._open_late_sales()

    async def _return_everything(self, reason: str) -> None:
        owed = await self._desk.owe_refund(reason)
        if owed.refund is not None:
            self._refunds.owe(owed.refund)

    async def _close_loose_ends(self) -> None:
        """Before the run ends: every attempt shut, every refund done, every sale owned by an order, no handler open."""
        if self._payments.open:
            self._background.start(self._payments.shut_leftovers())
        self._let_go_of_sale()
        while True:
            await self._handle_reports()
            await self._open_late_sales()
            if self._background.is_idle and workflow.all_handlers_finished() and not self._reports:
                return
            await workflow.wait_condition(
                lambda: (
                    bool(self._reports)
                    or bool(self._dispenser.late_sales)
                    or (self._background.is_idle and workflow.all_handlers_finished())
                )
            )

    def _let_go_of_sale(self) -> None:
        """The order's own sale came while its money was already on its way back: it needs an order of its own too."""
        sale = self._dispenser.sale
        if sale is not None and not self._desk.order.charge_fen and sale.may_be_fuel:
            self._dispenser.late_sales.append(sale)
            self._dispenser.sale = None

    async def _open_late_sales(self) -> None:
        while self._dispenser.late_sales:
            await self._open_late_sale(self._dispenser.late_sales.pop(0))

    async def _open_late_sale(self, sale: SaleRecord) -> None:
        """Fuel on an order that had ended gets an order of its own, for a person to decide: no sale without an order."""
        order_no = ids.order_no_of_sale(sale.natural_key)
        order = self._desk.order
        try:
            await workflow.start_child_workflow(
                FillAndPay.run,
                FillInput(order_no=order_no, sale=sale),
                id=ids.fill_workflow_id(order_no),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=attributes(order, order_no, S.UNPAID),
                static_summary=f"订单 {order.order_no} 结束后出油，{order.station_code} {order.nozzle_no}号枪",
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("the sale has its order already")

    def _result(self) -> FillResult:
        view = self._desk.view
        refused = self._start_answer if view is None else None
        return FillResult(
            order_no=self._input.order_no,
            status=view.status if view else None,
            paid_fen=view.paid_fen if view else 0,
            charge_fen=view.charge_fen if view else 0,
            refunded_fen=view.refunded_fen if view else 0,
            start=refused,
            ended_at=workflow.now(),
        )

    @workflow.update(name=names.UPDATE_START, description="开始预付加注（小程序、自助机或柜台）")
    async def start(self, request: StartFill) -> StartAnswer:
        """Answer the start: the validated quote with payment parameters, or why not."""
        await workflow.wait_condition(lambda: self._start_answer is not None)
        assert self._start_answer is not None
        if request.body_hash != (self._input.start.body_hash if self._input.start else ""):
            return StartAnswer(outcome=StartOutcome.KEY_REUSED, order_no=request.order_no)
        return self._start_answer

    @workflow.update(name=names.UPDATE_PAY, description="付款（任一屏幕）")
    async def pay(self, command: PayCommand) -> PayAnswer:
        """Open a payment attempt for a screen; the first success of any screen wins."""
        return await self._people.pay(command)

    @pay.validator
    def _may_pay(self, command: PayCommand) -> None:
        self._people.check_payments()

    @workflow.update(name=names.UPDATE_TAKE_CASH, description="收现金（收银员）")
    async def take_cash(self, command: CashCommand) -> CommandAnswer:
        """Take the whole amount at the counter."""
        return await self._people.take_cash(command)

    @take_cash.validator
    def _may_take_cash(self, command: CashCommand) -> None:
        self._people.commands.check(till_of(command))

    @workflow.update(name=names.UPDATE_CANCEL, description="取消订单（说明原因）")
    async def cancel(self, command: CancelCommand) -> CommandAnswer:
        """End the order with a reason, as far as money and fuel still allow it."""
        return await self._people.cancel(command)

    @cancel.validator
    def _may_cancel(self, command: CancelCommand) -> None:
        self._people.commands.check(command.actor)

    @workflow.update(name=names.UPDATE_RESOLVE, description="人工处理")
    async def resolve(self, command: ResolveCommand) -> CommandAnswer:
        """Carry out a person's decision."""
        return await self._people.resolve(command)

    @resolve.validator
    def _may_resolve(self, command: ResolveCommand) -> None:
        self._people.commands.check(command.actor)

    @workflow.signal(name=names.SIGNAL_PAYMENT_REPORTED)
    def payment_reported(self, report: PaymentReported) -> None:
        """A channel reported something about an attempt or a refund."""
        self._reports.append(report)

    @workflow.signal(name=names.SIGNAL_FILL_COMPLETED)
    def fill_completed(self, sale: SaleRecord) -> None:
        """The dispenser's sale arrived; the same natural key counts once."""
        self._dispenser.sale_arrived(sale)

    @workflow.signal(name=names.SIGNAL_COMMAND_REPORTED)
    def command_reported(self, result: CommandResult) -> None:
        """The edge's answer came after nobody waited for it any more."""
        self._dispenser.answer_arrived(result)

    @workflow.query(name=names.QUERY_STATUS)
    def status(self) -> FillStatus:
        """Return where the order is, what it waits for and who can move it."""
        view = self._desk.view
        mode = FillMode.PREPAID if self._input.start else FillMode.POSTPAID
        return FillStatus(
            order_no=self._input.order_no,
            mode=mode,
            status=view.status if view else None,
            waits_for=WAITS_FOR.get(view.status, ("", ""))[0] if view else self._desk.unopened or "开单",
            needs_person=view.needs_person if view else "place_unknown" if self._desk.unplaced else "",
            paid_fen=view.paid_fen if view else 0,
            charge_fen=view.charge_fen if view else 0,
            refunded_fen=view.refunded_fen if view else 0,
            open_attempts=tuple(self._payments.open),
        )
