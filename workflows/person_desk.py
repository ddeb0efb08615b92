"""Commands of people on one order: pay from any screen, take cash, cancel with a reason, decide what is unclear."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows.dispenser_desk import DispenserDesk, is_answered, is_withdrawn
from workflows.order_desk import Background, CommandCount, OrderDesk, command_in_history
from workflows.payment_desk import PaymentDesk, Shut
from workflows.refund_desk import RefundDesk

with workflow.unsafe.imports_passed_through():
    from contracts.fill import (
        CancelCommand,
        CashCommand,
        CommandAnswer,
        PayAnswer,
        PayCommand,
        PayState,
        ResolveAction,
        ResolveCommand,
    )
    from contracts.orders import PostVerdict
    from contracts.payment import AttemptRef, PaymentOutcome
    from contracts.station import CommandResult, CommandState, SaleRecord
    from domain import policy
    from domain.money import yuan
    from domain.order import OrderStatus
    from domain.payment import OutcomeKind, PayMethod
    from domain.settlement import LARGEST_FIGURE

S = OrderStatus
_STATES = {
    OutcomeKind.SUCCEEDED: PayState.PAID,
    OutcomeKind.PENDING: PayState.WAITING,
    OutcomeKind.FAILED: PayState.FAILED,
    OutcomeKind.NOT_FOUND: PayState.UNCERTAIN,
    OutcomeKind.UNKNOWN: PayState.UNCERTAIN,
}
_PAYABLE = (S.AWAITING_PAYMENT, S.UNPAID)
_REFUSED_ZH = {
    "already_paid": "已由其他终端支付",
    "not_payable": "订单当前不能付款",
    "payer_unknown": "请先登录微信小程序",
}
_FAILED_ZH = {
    "NOT_ENOUGH": "余额不足，请换一种付款方式",
    "AUTH_CODE_EXPIRE": "付款码已过期，请顾客刷新后重扫",
    "AUTH_CODE_INVALID": "付款码无效，请重扫",
}


_NOT_KEPT_ZH = {
    PostVerdict.SURPLUS: "已由其他终端支付",
    PostVerdict.NOZZLE_LOST: "订单已取消或油枪已被占用",
    PostVerdict.QUARANTINED: "到账金额与应付不符，由财务核实后退回",
}


_SILENT_NEEDS = ("dispenser_unanswered", "fill_not_reported")
"""Why a person may say that nothing was dispensed: nobody else knows what the pump did."""


class PersonDesk:
    """What people may do; every refusal says why, and a refused command changes nothing."""

    def __init__(
        self,
        desk: OrderDesk,
        payments: PaymentDesk,
        refunds: RefundDesk,
        dispenser: DispenserDesk,
        background: Background,
    ) -> None:
        self._desk, self._payments, self._refunds = desk, payments, refunds
        self._dispenser, self._background = dispenser, background
        self.flagged_sale: SaleRecord | None = None
        self._till = asyncio.Lock()
        self._payments_asked = 0
        self.commands = CommandCount()

    def check_payments(self) -> None:
        """Refuse a payment that nothing is due for, or one too many, before it is accepted.

        So it leaves no trace in the run's history and does not count. Temporal grants a run 2,000 updates for all its
        time; screens must leave enough of them to the counter.
        """
        self._check_due()
        if self._payments_asked >= policy.MOST_ATTEMPTS:
            raise ApplicationError("付款次数过多，请到柜台付现金", type="too_many_payments")

    def _check_due(self) -> None:
        view = self._desk.view
        if view is not None and (view.status not in _PAYABLE or view.due_fen <= 0) and not view.paid_fen:
            raise ApplicationError(_REFUSED_ZH["not_payable"], type="not_payable")

    def pay_answer(self, ref: AttemptRef, outcome: PaymentOutcome) -> PayAnswer:
        """Return what the screen shows after a channel's answer."""
        message = ""
        if outcome.kind is OutcomeKind.FAILED:
            message = _FAILED_ZH.get(outcome.code, "付款未成功，请换一种付款方式")
        elif outcome.kind in (OutcomeKind.UNKNOWN, OutcomeKind.NOT_FOUND):
            message = "付款结果确认中，请勿重复付款"
        elif ref.method is PayMethod.WECHAT_CODE and outcome.kind is OutcomeKind.PENDING:
            message = "请顾客在手机上确认付款"
        return PayAnswer(
            state=_STATES[outcome.kind],
            out_trade_no=ref.out_trade_no,
            method=ref.method,
            amount_fen=ref.amount_fen,
            client_params=outcome.client_params,
            code=outcome.code,
            message=message,
        )

    async def find_attempt(self, out_trade_no: str) -> AttemptRef | None:
        """Return an attempt by its channel number; None when it is not of this order."""
        known = self._payments.open.get(out_trade_no)
        if known is not None:
            return known.ref
        loaded = await self._desk.load_attempt(out_trade_no)
        ours = loaded.view is not None and loaded.view.order_no == self._desk.order.order_no
        return loaded.attempt if ours else None

    async def pay(self, command: PayCommand) -> PayAnswer:
        """Open an attempt for a screen and place it at its channel.

        One that arrived before the order was open is judged now, and answered like any other.
        """
        self._payments_asked += 1
        await self._opened()
        self._check_due()
        return await self._pay(command)

    async def _pay(self, command: PayCommand) -> PayAnswer:
        begun = await self._desk.begin_attempt(_update_id(), command)
        if begun.attempt is None:
            paid = begun.refused == "already_paid"
            return PayAnswer(
                state=PayState.ALREADY_PAID if paid else PayState.NOT_PAYABLE,
                method=command.method,
                code=begun.refused,
                message=_REFUSED_ZH.get(begun.refused, ""),
            )
        ref = begun.attempt
        if command.method is PayMethod.WECHAT_CODE:
            outcome = await self._payments.charge_code(ref)
        else:
            outcome = await self._payments.create(ref)
        answer = self.pay_answer(ref, outcome)
        verdict = self._payments.not_kept.get(ref.out_trade_no)
        return answer if verdict is None else _not_kept(ref, verdict)

    async def take_cash(self, command: CashCommand) -> CommandAnswer:
        """Take the whole amount at the counter; an open attempt is closed first, and money that it brought wins.

        One cashier at a time: the second one is told before taking the customer's money, not after.
        """
        self.commands.add(till_of(command))
        await self._taken()
        async with self._till:
            return await self._take_cash(command)

    async def _take_cash(self, command: CashCommand) -> CommandAnswer:
        order = self._desk.order
        if order.status not in _PAYABLE or order.due_fen <= 0:
            return self._no("NOT_PAYABLE", "订单当前不能收款")
        if command.received_fen != order.due_fen:
            return self._no("AMOUNT_DIFFERS", f"应收 {yuan(order.due_fen)} 元")
        shut = await self._payments.shut_all()
        if shut is Shut.PAID or self._desk.order.paid_fen:
            return self._no("ALREADY_PAID", "顾客已用手机付款，请勿收现金")
        if shut is Shut.UNSURE:
            return self._no("CHANNEL_UNCERTAIN", "有一笔手机付款尚未确认关闭，请稍候重试")
        cash = PayCommand(method=PayMethod.CASH, screen="cashier", cashier_id=command.cashier_id)
        answer = await self._pay(cash)
        if answer.state is PayState.PAID:
            return self._yes(f"已收现金 {yuan(command.received_fen)} 元")
        return self._no(answer.code or str(answer.state), answer.message or "未能收款")

    async def cancel(self, command: CancelCommand) -> CommandAnswer:
        """End the order with a reason: before money by closing, before fuel by withdrawing the release."""
        self.commands.add(command.actor)
        await self._opened()
        was_payable = self._desk.order.status in _PAYABLE
        await command_in_history()
        if not command.reason.strip():
            return self._no("REASON_MISSING", "请填写取消原因")
        status = self._desk.order.status
        if was_payable and self._desk.order.paid_fen:
            return self._no("ALREADY_PAID", "顾客已付款，不能取消")
        if status in _PAYABLE:
            return await self._cancel_unpaid(command)
        if status in (S.PAID, S.AUTHORISED):
            if self._dispenser.fuel_is_known:
                return self._fuel_flowed()
            return await self._cancel_authorised(command)
        return self._no("TOO_LATE", f"订单{status.label_zh}，不能取消")

    async def _cancel_unpaid(self, command: CancelCommand) -> CommandAnswer:
        """Close every attempt; money that arrives meanwhile goes straight back (prepaid) or pays the sale (post-paid)."""
        prepaid = self._desk.order.status is S.AWAITING_PAYMENT
        self._payments.cancelling = prepaid
        shut = await self._payments.shut_all()
        self._payments.cancelling = False
        if self._desk.order.status is S.REFUNDING:
            return self._yes("顾客刚好付款成功，已取消并全额退款")
        if self._desk.order.status not in _PAYABLE or shut is Shut.PAID:
            return self._no("ALREADY_PAID", "顾客已付款，不能取消")
        if shut is Shut.UNSURE:
            return self._no("CHANNEL_UNCERTAIN", "支付渠道尚未确认关单，请稍候重试")
        await self._desk.end(S.CANCELLED, command.actor, command.reason)
        if self._desk.order.status is not S.CANCELLED:
            return self._no("ALREADY_PAID", "顾客已付款，不能取消")
        return self._yes("已取消")

    async def _cancel_authorised(self, command: CancelCommand) -> CommandAnswer:
        """Withdraw the release at the dispenser; once fuel flows the fill ends by itself and is charged."""
        try:
            await workflow.wait_condition(
                lambda: self._desk.order.status is not S.PAID, timeout=policy.STOP_EXPIRY
            )
        except TimeoutError:
            return self._no("DISPENSER_UNANSWERED", "油机尚未应答，请稍候重试")
        if self._desk.order.status is not S.AUTHORISED:
            return self._no("TOO_LATE", f"订单{self._desk.order.status.label_zh}，不能取消")
        result = await self._dispenser.stop()
        if self._desk.order.status is not S.AUTHORISED:
            return self._yes("油机已结束本单，按实际加注结算")
        if self._dispenser.fuel_is_known:
            return self._fuel_flowed()
        if is_withdrawn(result):
            if not await self._return_all(command.reason, command.actor):
                return self._fuel_flowed()
            return self._yes("已取消，全额退款")
        if result.code == "FUELLING":
            return self._no("FUELLING", "已开始加注，不能取消；挂枪后按实际金额结算")
        return self._no("DISPENSER_UNANSWERED", "油机未应答，请现场确认后重试")

    async def resolve(self, command: ResolveCommand) -> CommandAnswer:
        """Carry out a person's decision where the order really waits for it."""
        self.commands.add(command.actor)
        await self._taken()
        if objection := self._desk.objection(command):
            return self._refunds.with_handed_back(command, objection)
        match command.action:
            case ResolveAction.CHARGE_DEVICE_AMOUNT | ResolveAction.CHARGE_AMOUNT:
                return await self._decide_charge(command)
            case ResolveAction.COLLECT_CASH | ResolveAction.WRITE_OFF:
                return await self._decide_shortfall(command)
            case ResolveAction.RETRY_REFUND | ResolveAction.RELEASE_HELD | ResolveAction.CASH_RETURNED:
                return await self._refunds.decide(command)
            case ResolveAction.NOTHING_DISPENSED:
                return await self._decide_nothing(command)

    async def _decide_charge(self, command: ResolveCommand) -> CommandAnswer:
        sale, order = self.flagged_sale, self._desk.order
        if sale is None or order.charge_fen or order.status not in (S.PAID, S.AUTHORISED, S.UNPAID):
            return self._no("NOT_WAITING", "订单没有待核定的金额")
        device = command.action is ResolveAction.CHARGE_DEVICE_AMOUNT
        charge = sale.amount_fen if device else command.amount_fen
        if charge is None or charge < 0:
            return self._no("AMOUNT_MISSING", "请填写核定金额")
        if charge > LARGEST_FIGURE:
            return self._no("AMOUNT_TOO_LARGE", "油机金额超出合理范围，请按指定金额核定")
        settled = await self._desk.settle(sale, charge_fen=charge, actor=command.actor, note=command.note)
        if settled.refund is not None:
            self._refunds.owe(settled.refund)
        if settled.view.charge_fen != charge:
            return self._no("NOT_WAITING", f"已由他人核定 {yuan(settled.view.charge_fen)} 元")
        return self._yes(f"已核定 {yuan(charge)} 元")

    async def _decide_shortfall(self, command: ResolveCommand) -> CommandAnswer:
        collected = command.action is ResolveAction.COLLECT_CASH
        if not await self._desk.resolve_shortfall(
            collected=collected, actor=command.actor, note=command.note
        ):
            return self._no("NOT_WAITING", "订单没有差额，或已由他人处理")
        return self._yes("差额已收" if collected else "差额已核销")

    async def _decide_nothing(self, command: ResolveCommand) -> CommandAnswer:
        """Withdraw the release first: what a person saw may be over. A silent station is why a person decides at all.

        The money then goes back all the same, and the release is withdrawn again until the station has answered. A
        pump that answers and does not stop keeps the money here: the person stops it by hand and decides again.
        """
        order = self._desk.order
        if order.status not in (S.PAID, S.AUTHORISED) or order.needs_person not in _SILENT_NEEDS:
            return self._no("NOT_WAITING", "订单没有等待人工确认未出油")
        if self._dispenser.fuel_is_known:
            return self._no("FUELLING", "已有加注记录，按实际加注结算")
        if order.status is S.PAID and not await self._dispenser.is_released_or_not():
            return self._no("DISPENSER_UNANSWERED", "油机尚未应答，请稍候")
        result = await self._dispenser.stop(policy.STOP_PATIENCE)
        if self._dispenser.fuel_is_known or result.code == "FUELLING":
            return self._no("FUELLING", "正在加注，不能退款；挂枪后按实际金额结算")
        if not is_withdrawn(result) and not _is_silent(result):
            return self._no("PUMP_NOT_STOPPED", "油机未能停下，暂不能退款；请现场挂枪或关闭油机，再重新处理")
        if not await self._return_all(command.note, command.actor):
            return self._no("TOO_LATE", f"加注记录刚刚到达，订单{self._desk.order.status.label_zh}")
        if is_answered(result):
            return self._yes("已确认未出油，全额退款")
        self._background.start(self._dispenser.withdraw())
        return self._yes("已确认未出油，全额退款；油机未应答，系统继续撤销授权")

    async def _return_all(self, reason: str, actor: str) -> bool:
        """Owe everything back; False when the sale was faster and has been settled."""
        owed = await self._desk.owe_refund(reason, actor)
        if owed.refund is not None:
            self._refunds.owe(owed.refund)
        return self._desk.order.status in (S.REFUNDING, S.REFUNDED)

    async def _opened(self) -> None:
        """Wait until the order is open: a command may arrive on the first workflow task.

        Raises ApplicationError when it is not, or not yet: cash that is recorded hours later is worse than a refusal.
        """
        await workflow.wait_condition(lambda: self._desk.view is not None or bool(self._desk.unopened))
        if self._desk.view is None:
            raise ApplicationError(self._desk.unopened, type="NOT_OPEN", non_retryable=True)

    async def _taken(self) -> None:
        """Wait until the order is open and a person's command cannot be lost any more. Raises ApplicationError."""
        await self._opened()
        await command_in_history()

    def _fuel_flowed(self) -> CommandAnswer:
        """Refuse a cancel: the sale is here and only waits to be settled, or for a person to decide its amount."""
        return self._no("FUELLING", "已加注，不能取消；按实际加注结算")

    def _yes(self, message: str) -> CommandAnswer:
        return CommandAnswer(ok=True, status=self._desk.order.status, message=message)

    def _no(self, code: str, message: str) -> CommandAnswer:
        return CommandAnswer(ok=False, status=self._desk.order.status, code=code, message=message)


def till_of(command: CashCommand) -> str:
    """Return who takes cash, as the actor of other commands is named."""
    return f"staff:{command.cashier_id}"


def _update_id() -> str:
    info = workflow.current_update_info()
    return info.id if info else ""


def _is_silent(result: CommandResult) -> bool:
    """Return whether nobody knows what became of a stop: it did not reach the station, or the station not its pump."""
    return result.state in (CommandState.UNKNOWN, CommandState.EXPIRED) or result.code == "FP_OFFLINE"


def _not_kept(ref: AttemptRef, verdict: PostVerdict) -> PayAnswer:
    """Return what a screen shows for money that arrived and that the order does not keep."""
    message = _NOT_KEPT_ZH[verdict]
    if verdict is not PostVerdict.QUARANTINED:
        message += "，请把现金退还顾客" if ref.method is PayMethod.CASH else "，本笔原路退回"
    return PayAnswer(
        state=PayState.ALREADY_PAID if verdict is PostVerdict.SURPLUS else PayState.NOT_PAYABLE,
        out_trade_no=ref.out_trade_no,
        method=ref.method,
        code=str(verdict),
        message=message,
    )
