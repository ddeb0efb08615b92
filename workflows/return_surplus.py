"""Return a surplus: money that reached an order whose process has already ended goes back once."""

from temporalio import workflow

from workflows.order_desk import Background, CommandCount, OrderDesk, command_in_history
from workflows.payment_desk import PaymentDesk
from workflows.refund_desk import RefundDesk
from workflows.wording import details

with workflow.unsafe.imports_passed_through():
    from contracts import names
    from contracts.fill import CommandAnswer, ResolveCommand
    from contracts.payment import PaymentReported
    from domain.payment import OutcomeKind


@workflow.defn(name=names.RETURN_SURPLUS)
class ReturnSurplus:
    """A channel reported money for an ended order: ask the channel, post what is true, give it back (N17).

    Money that pays fuel already dispensed is kept: it settles the sale. A prepayment whose run is gone buys nothing
    any more: nobody would release the pump for it, so it goes back and the pump is free.
    Started by the notification handler when the order's own workflow is gone; the id is derived from the channel
    number, so a repeated notification meets the same run.
    """

    def __init__(self) -> None:
        self._loaded = False
        self._background, self._commands = Background(), CommandCount()
        self._desk = OrderDesk(details)
        self._refunds = RefundDesk(self._desk, self._background, has_all=False)
        self._payments = PaymentDesk(self._desk, self._background, self._refunds.owe)
        self._payments.cancelling = True

    @workflow.run
    async def run(self, report: PaymentReported) -> str:
        """Return how it ended: `unknown_attempt`, the channel's verdict, `settled` (kept) or `returned`."""
        return await self._background.beside(self._give_back(report), self._desk.cancel_ignored)

    async def _give_back(self, report: PaymentReported) -> str:
        loaded = await self._desk.load_attempt(report.out_trade_no)
        self._loaded = True
        if loaded.view is None or loaded.attempt is None:
            await workflow.wait_condition(workflow.all_handlers_finished)
            return "unknown_attempt"
        self._desk.view = loaded.view
        outcome = await self._payments.look_until_known(loaded.attempt)
        await workflow.wait_condition(lambda: self._background.is_idle and workflow.all_handlers_finished())
        self._desk.tell(stage=True)
        if outcome.kind is not OutcomeKind.SUCCEEDED:
            return str(outcome.kind)
        return "returned" if report.out_trade_no in self._payments.not_kept else "settled"

    @workflow.update(name=names.UPDATE_RESOLVE, description="人工处理退款")
    async def resolve(self, command: ResolveCommand) -> CommandAnswer:
        """Carry out a person's decision about the refund: try it again, or it went back in cash.

        Another run of the order may have asked for the same need: its decision is this one's too.
        """
        self._commands.add(command.actor)
        await workflow.wait_condition(lambda: self._loaded)
        if self._desk.view is None:
            return CommandAnswer(ok=False, status=None, code="NOT_WAITING", message="没有这笔付款")
        await command_in_history()
        if objection := self._desk.objection(command, self._refunds.needs):
            return self._refunds.with_handed_back(command, objection)
        return await self._refunds.decide(command)

    @resolve.validator
    def _may_resolve(self, command: ResolveCommand) -> None:
        self._commands.check(command.actor)

    @workflow.signal(name=names.SIGNAL_PAYMENT_REPORTED)
    def payment_reported(self, report: PaymentReported) -> None:
        """The channel reported again; a refund's report makes the refund look at once."""
        if report.out_refund_no:
            self._refunds.poke(report.out_refund_no)
