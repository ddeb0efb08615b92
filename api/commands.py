"""The commands that move an order, the same for the cashier's API and the staff console.

A command checks who may give it and that the order is in the caller's sight; the order itself decides whether it
is possible. An order that has ended answers from its row.
"""

from uuid import uuid4

from api import cash_returns
from api.auth.roles import Principal, Role
from api.database import Database
from api.errors import ProblemError, not_found
from api.methods import may_pay_by
from api.ports import OrderEndedError, TemporalGateway
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
from db.repositories.views import OrderRow, OrderScope
from domain.order import FillMode, OrderStatus
from domain.payment import PayMethod

_CASHIER_ACTIONS = frozenset(
    {ResolveAction.COLLECT_CASH, ResolveAction.CASH_RETURNED, ResolveAction.RETRY_REFUND}
)
_DESK_ROLES = frozenset({Role.CASHIER, Role.MANAGER, Role.OPERATOR, Role.ADMIN})


CHANNEL_NEEDS = frozenset({"refund_closed", "refund_rejected"})
"""Refunds that a channel was to pay and will not: cash instead is a manager's decision."""


def may_resolve(role: Role, action: ResolveAction, need: str = "") -> bool:
    """Return whether a role may take this decision: what costs the station money needs a manager.

    With `need` (why the order waits) also for that reason: a cashier hands back what was paid in cash, but turns no
    refund of a channel into cash. The order checks that again (`ResolveCommand.by_cashier`).
    """
    if role is Role.CASHIER:
        to_cash = action is ResolveAction.CASH_RETURNED and need in CHANNEL_NEEDS
        return action in _CASHIER_ACTIONS and not to_cash
    return role in _DESK_ROLES


def scope_of(principal: Principal) -> OrderScope:
    """Return whose orders a caller may see.

    Raises ProblemError 403 for a station role without a station: a mistake in the staff list must not open all.
    """
    match principal.role:
        case Role.DRIVER:
            return OrderScope(driver_id=principal.id)
        case Role.ADMIN:
            return OrderScope()
        case Role.OPERATOR | Role.AUDITOR if principal.operator_id is not None:
            return OrderScope(operator_id=principal.operator_id, station_id=principal.station_id)
        case Role.CASHIER | Role.MANAGER | Role.TERMINAL if principal.station_id is not None:
            return OrderScope(station_id=principal.station_id, nozzle_numbers=principal.nozzle_numbers)
        case _:
            raise ProblemError(403, "forbidden", "没有权限", "账号没有绑定油站")


def screen_of(principal: Principal) -> str:
    """Return the name of the screen that a caller uses, for the story of the order."""
    if principal.role is Role.TERMINAL:
        return principal.kind
    return "phone" if principal.role is Role.DRIVER else "cashier"


class Commands:
    """Sends commands to orders. `update_id` makes a repeated command answer what it answered first."""

    def __init__(self, temporal: TemporalGateway, db: Database) -> None:
        self._temporal, self._db = temporal, db

    async def pay(self, order: OrderRow, command: PayCommand, update_id: str) -> PayAnswer:
        """Ask an order for a payment; raises TemporalAwayError, CommandRejectedError."""
        try:
            return await self._temporal.pay(order.order_no, command, update_id)
        except OrderEndedError:
            return PayAnswer(
                state=PayState.ALREADY_PAID if order.paid_fen > 0 else PayState.NOT_PAYABLE,
                message="订单已支付" if order.paid_fen > 0 else "订单已结束",
            )

    async def take_cash(
        self, order_no: str, cashier_id: int, received_fen: int, update_id: str = ""
    ) -> CommandAnswer:
        """Record that the whole amount due was taken in cash (`received_fen`); raises TemporalAwayError."""
        command = CashCommand(cashier_id=cashier_id, received_fen=received_fen)
        try:
            return await self._temporal.take_cash(order_no, command, update_id or _fresh("take_cash"))
        except OrderEndedError:
            return _ended()

    async def cancel(self, order_no: str, actor: str, reason: str, update_id: str = "") -> CommandAnswer:
        """End an order with a reason; `actor` comes from `Approvals` (`api/approval.py`); raises TemporalAwayError."""
        command = CancelCommand(actor=actor, reason=reason)
        try:
            return await self._temporal.cancel(order_no, command, update_id or _fresh("cancel"))
        except OrderEndedError:
            return _ended()

    async def resolve(self, order_no: str, command: ResolveCommand, update_id: str = "") -> CommandAnswer:
        """Carry out a person's decision; raises TemporalAwayError."""
        try:
            answer = await self._temporal.resolve(order_no, command, update_id or _fresh("resolve"))
        except OrderEndedError:
            answer = _ended()
        if command.action is ResolveAction.CASH_RETURNED:
            return await cash_returns.told(self._db, order_no, command, answer)
        return answer


def _fresh(command: str) -> str:
    """A form of the console is sent once by a person, so its command has an id of its own."""
    return f"{command}-{uuid4().hex}"


def _ended() -> CommandAnswer:
    return CommandAnswer(ok=False, status=None, code="order_ended", message="订单已结束，不能再操作")


def check_driver_may_cancel(principal: Principal, order: OrderRow) -> None:
    """Raise ProblemError 404 unless the order is the driver's own, 403 for fuel that is already in the tank.

    Cancelling a post-paid sale writes it off, which is the counter's decision; asking for its payment makes a
    driver its customer, not somebody who may let himself off.
    """
    if principal.role is not Role.DRIVER:
        return
    if order.driver_id != principal.id:
        raise not_found()
    if order.mode == FillMode.POSTPAID:
        raise ProblemError(403, "forbidden", "没有权限", "已加注的订单不能自行取消，请到柜台处理")


def check_payable(principal: Principal, order: OrderRow, method: PayMethod) -> None:
    """Raise ProblemError 422 when this caller cannot pay by this method."""
    if not may_pay_by(principal.role, method):
        raise ProblemError(422, "method_not_allowed_here", "不支持的支付方式", "请选择其他支付方式")
    if order.mode == FillMode.PREPAID and OrderStatus(order.status) is not OrderStatus.AWAITING_PAYMENT:
        raise ProblemError(409, "not_payable", "订单无需支付", OrderStatus(order.status).label_zh)
