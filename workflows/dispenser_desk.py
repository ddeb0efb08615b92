"""The dispenser's side of one order: the one authorise command, its answer however late, and the sales that arrive."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from workflows.order_desk import OrderDesk

with workflow.unsafe.imports_passed_through():
    from activities import options
    from activities.dispensers import DispenserActivities
    from contracts import names
    from contracts.station import AuthoriseCommand, CommandResult, CommandState, SaleRecord, StopCommand
    from domain import ids, policy
    from domain.money import yuan
    from domain.order import OrderStatus


class DispenserDesk:
    """What the order has told its dispenser and heard from it."""

    def __init__(self, desk: OrderDesk, opening_sale: SaleRecord | None) -> None:
        self._desk = desk
        self._opened_by_sale = opening_sale is not None
        self.sale: SaleRecord | None = None
        """The sale that settles a prepaid order."""
        self.late_sales: list[SaleRecord] = []
        """Fuel that came after the order's own sale or after its end: each needs an order of its own."""
        self._seen: set[str] = {opening_sale.natural_key} if opening_sale else set()
        self._command: AuthoriseCommand | None = None
        self._late_answer: CommandResult | None = None
        self._silences = 0

    @property
    def fuel_is_known(self) -> bool:
        """Return whether a sale says that fuel flowed for this order, or that nobody knows; settled or not."""
        return self.sale is not None and self.sale.may_be_fuel

    def sale_arrived(self, sale: SaleRecord) -> None:
        """Take a sale; the same natural key counts once. One of another station settles nothing here."""
        if sale.natural_key in self._seen:
            return
        self._seen.add(sale.natural_key)
        view = self._desk.view
        ended = view is not None and (view.status is OrderStatus.REFUNDING or view.status.is_final)
        foreign = view is not None and view.station_code != sale.station_code
        if self.sale is None and not ended and not foreign and not self._opened_by_sale:
            self.sale = sale
        elif sale.may_be_fuel:
            self.late_sales.append(sale)

    def answer_arrived(self, result: CommandResult) -> None:
        """Take an answer that came after nobody waited for it any more; UNKNOWN is none, so it wakes nobody."""
        ours = self._command is not None and result.command_id == self._command.command_id
        if ours and result.state is not CommandState.UNKNOWN:
            self._late_answer = result

    async def authorise(self) -> CommandResult:
        """Send the one authorise command and return the edge's answer.

        UNKNOWN when none came in time, or when the sale or a person came first: no answer is not a refusal.
        """
        if self._command is None:
            self._command = self._authorise_command()
        command = self._command
        summary = f"授权 {self._desk.order.nozzle_no} 号枪，限额 {yuan(command.amount_fen)} 元"
        handle = workflow.start_activity_method(
            DispenserActivities.authorise, command, **options.named(options.DISPENSER, summary, self._queue())
        )
        await workflow.wait_condition(
            lambda: (
                handle.done()
                or self.sale is not None
                or self._late_answer is not None
                or self._desk.order.status is not OrderStatus.PAID
            )
        )
        if not handle.done():
            handle.cancel()
        try:
            answer = await handle
        except ActivityError:
            answer = _unknown(command)
        return self._late_answer or answer

    async def wait_for_news(self) -> None:
        """After no answer: wait for the edge's report, the sale or a person, then ask again, ever more seldom."""
        ladder = policy.AUTHORISE_ASK_LADDER
        pause = policy.step(ladder, self._silences)
        self._silences += 1
        try:
            await workflow.wait_condition(
                lambda: (
                    self.sale is not None
                    or self._late_answer is not None
                    or self._desk.order.status is not OrderStatus.PAID
                ),
                timeout=pause,
                timeout_summary="等站端回音，到点再问",
            )
        except TimeoutError:
            return

    async def is_released_or_not(self) -> bool:
        """Wait until the authorise command is answered or too old to be carried out; False when that takes longer.

        Before that a stop proves nothing: it may overtake the release.
        """
        command = self._command
        left = command.expires_at - workflow.now() if command else policy.AUTHORISE_EXPIRY
        if left <= timedelta(0):
            return True
        try:
            await workflow.wait_condition(
                lambda: self.sale is not None or self._desk.order.status is not OrderStatus.PAID,
                timeout=min(left, policy.ANSWER_PATIENCE),
                timeout_summary="等油机应答授权",
            )
        except TimeoutError:
            return left <= policy.ANSWER_PATIENCE
        return True

    async def withdraw(self) -> None:
        """Repeat the stop until the station has answered: the money is on its way back, so the pump must be shut."""
        ladder, tries = policy.WITHDRAW_LADDER, 0
        while True:
            pause = policy.step(ladder, tries)
            await workflow.sleep(pause, summary="站端未应答撤销，到点再撤销")
            tries += 1
            if is_answered(await self.stop()):
                return

    async def stop(self, patience: timedelta | None = None) -> CommandResult:
        """Withdraw the release; each try is a command of its own, so that a refused one can be tried again.

        UNKNOWN when no answer came, or none within `patience`.
        """
        order = self._desk.order
        command = StopCommand(
            command_id=f"{ids.stop_command_id(order.order_no)}-{workflow.info().get_current_history_length()}",
            order_no=order.order_no,
            station_code=order.station_code,
            node=order.node,
            fp=order.fp,
            expires_at=workflow.now() + policy.STOP_EXPIRY,
        )
        config = options.named(options.DISPENSER, "撤销授权", self._queue())
        handle = workflow.start_activity_method(DispenserActivities.stop, command, **config)
        try:
            await workflow.wait_condition(handle.done, timeout=patience, timeout_summary="等油机应答撤销")
        except TimeoutError:
            handle.cancel()
        try:
            return await handle
        except ActivityError:
            return _unknown(command)

    def _authorise_command(self) -> AuthoriseCommand:
        order = self._desk.order
        return AuthoriseCommand(
            command_id=ids.authorise_command_id(order.order_no),
            order_no=order.order_no,
            station_code=order.station_code,
            node=order.node,
            fp=order.fp,
            nozzle=order.device_nozzle,
            amount_fen=order.paid_fen,
            price_fen_per_unit=order.price_fen_per_unit,
            expires_at=workflow.now() + policy.AUTHORISE_EXPIRY,
        )

    def _queue(self) -> str:
        return names.gateway_task_queue(self._desk.order.gateway_shard)


def is_withdrawn(result: CommandResult) -> bool:
    """Return whether a stop left the pump shut: taken back, or never released."""
    return result.state is CommandState.ACCEPTED or result.code == "NOT_AUTHORISED"


def is_answered(result: CommandResult) -> bool:
    """Return whether a stop said how the pump stands; fuel that flows will be reported as a sale."""
    return is_withdrawn(result) or result.code == "FUELLING"


def _unknown(command: AuthoriseCommand | StopCommand) -> CommandResult:
    return CommandResult(
        command_id=command.command_id,
        order_no=command.order_no,
        state=CommandState.UNKNOWN,
        code="NO_ANSWER",
    )
