"""Asking an order for a payment, the same for phones, screens and the counter."""

from limits import RateLimitItemPerMinute
from sqlalchemy import Connection

from api.auth.roles import Principal, Role
from api.commands import check_payable, scope_of, screen_of
from api.deps import Services
from api.errors import ProblemError, not_found, too_many_requests
from api.idempotency import bind
from api.presenting import PAID_ELSEWHERE
from api.schemas.orders import PayBody, PayOut
from contracts.fill import PayAnswer, PayCommand, PayState
from db.repositories import views
from db.repositories.views import OrderRow
from domain import policy
from domain.payment import PayMethod

PER_CALLER_AND_ORDER = RateLimitItemPerMinute(20)
"""Far more than a person taps; counted in the memory of each API process."""


async def pay(services: Services, principal: Principal, order_no: str, body: PayBody, key: str) -> PayOut:
    """Ask an order for a payment and return how it stands.

    Raises ProblemError 404, 422, 409 when another screen was faster or the order takes no money, and 429.
    """
    if (body.method is PayMethod.WECHAT_CODE) != (body.auth_code is not None):
        code = "auth_code_missing" if body.auth_code is None else "auth_code_unexpected"
        raise ProblemError(422, code, "提交的内容有误", "付款码支付需要且仅需要扫描付款码")
    now = services.now()

    def prepare(conn: Connection) -> tuple[OrderRow, str]:
        order = views.order_by_no(conn, order_no, scope_of(principal))
        if order is None:
            raise not_found("没有这个订单")
        check_payable(principal, order, body.method)

        def admit() -> None:
            _check_room(services, conn, principal, order_no)

        return order, bind(conn, principal, "pay", key, order_no=order_no, body=body, now=now, admit=admit)

    order, update_id = await services.db.run(prepare)
    command = PayCommand(
        method=body.method,
        screen=screen_of(principal),
        driver_id=principal.id if principal.role is Role.DRIVER else None,
        terminal_id=principal.id if principal.role is Role.TERMINAL else None,
        cashier_id=principal.id if principal.role in (Role.CASHIER, Role.MANAGER) else None,
        auth_code=body.auth_code,
    )
    return _checked(await services.commands.pay(order, command, update_id))


def _check_room(services: Services, conn: Connection, principal: Principal, order_no: str) -> None:
    """Raise ProblemError 429 or 409 before a payment too many reaches the order, which refuses it too."""
    if not services.pays.hit(PER_CALLER_AND_ORDER, principal.subject, order_no):
        raise too_many_requests()
    if views.count_attempts(conn, order_no) >= policy.MOST_ATTEMPTS:
        raise ProblemError(409, "too_many_payments", "付款次数过多", "请到柜台付现金")


def _checked(answer: PayAnswer) -> PayOut:
    if answer.state is PayState.ALREADY_PAID:
        raise ProblemError(409, "already_paid", "订单已支付", answer.message or PAID_ELSEWHERE)
    if answer.state is PayState.NOT_PAYABLE:
        raise ProblemError(409, "not_payable", "订单当前不能付款", answer.message)
    return PayOut.model_validate(answer)
