"""The counter: what waits for money, what waits for a person, and the commands of a cashier."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from sqlalchemy import Connection

from api.auth.roles import COUNTER, DESK, STAFF, Principal, Role, allow
from api.commands import may_resolve, scope_of
from api.deps import ClientAddress, Services, ServicesDep
from api.errors import ProblemError, not_found
from api.idempotency import IdempotencyKey, bind
from api.presenting import command_out, order_out
from api.schemas.common import OrderNo
from api.schemas.orders import CancelBody, CashBody, CommandOut, OrdersOut, ResolveBody
from contracts.fill import ResolveAction, ResolveCommand
from db.repositories import views
from db.repositories.asked import Asked, asked_of, sum_of_refunds
from domain.order import OrderStatus

router = APIRouter(prefix="/v1/cashier", tags=["收银台"])
Reader = Annotated[Principal, Depends(allow(*STAFF))]
Counter = Annotated[Principal, Depends(allow(*COUNTER))]
Desk = Annotated[Principal, Depends(allow(*DESK))]
LIST_LIMIT = 200
_WITH_AMOUNT = (ResolveAction.CHARGE_AMOUNT, ResolveAction.CASH_RETURNED)


@router.get("/unpaid", summary="待付款")
async def unpaid(services: ServicesDep, principal: Reader) -> OrdersOut:
    """Return the sales of the caller's stations that wait for money, newest first."""
    return await _list(services, principal, status=OrderStatus.UNPAID.value)


@router.get("/attention", summary="待处理")
async def attention(services: ServicesDep, principal: Reader) -> OrdersOut:
    """Return the orders of the caller's stations that need a person, newest first."""
    return await _list(services, principal, attention=True)


async def _list(services: Services, principal: Principal, **filters: Any) -> OrdersOut:
    scope = scope_of(principal)

    def look(conn: Connection) -> tuple[list[views.OrderRow], dict[str, Asked]]:
        rows = views.orders(conn, scope, limit=LIST_LIMIT, **filters)
        return rows, asked_of(conn, rows)

    rows, asked = await services.db.read(look)
    return OrdersOut(orders=[order_out(r, principal, asked=asked.get(r.order_no)) for r in rows])


async def _prepare(
    services: Services,
    principal: Principal,
    command: str,
    key: str,
    order_no: str,
    body: BaseModel,
    admit: Callable[[Connection], None] = lambda _conn: None,
) -> str:
    """Return the update id of a command to an order of the caller's stations; raises ProblemError 404, 422.

    Also what `admit` raises for a command that comes for the first time.
    """
    scope, now = scope_of(principal), services.now()

    def prepare(conn: Connection) -> str:
        if views.order_by_no(conn, order_no, scope) is None:
            raise not_found("没有这个订单")
        return bind(
            conn, principal, command, key, order_no=order_no, body=body, now=now, admit=lambda: admit(conn)
        )

    return await services.db.run(prepare)


@router.post("/orders/{order_no}/cash", summary="收现金")
async def take_cash(
    order_no: OrderNo, body: CashBody, services: ServicesDep, principal: Counter, key: IdempotencyKey
) -> CommandOut:
    """Record that the whole amount due was taken in cash."""
    update_id = await _prepare(services, principal, "take_cash", key, order_no, body)
    answer = await services.commands.take_cash(order_no, principal.id, body.received_fen, update_id)
    return command_out(answer)


@router.post("/orders/{order_no}/cancel", summary="取消订单")
async def cancel(
    order_no: OrderNo,
    body: CancelBody,
    services: ServicesDep,
    principal: Desk,
    key: IdempotencyKey,
    address: ClientAddress,
) -> CommandOut:
    """End an order with a reason; a cashier needs the `approver` for fuel that was delivered and not paid."""
    actor = await services.approvals.actor_of_cancel(principal, order_no, body.approved_by(), address)
    update_id = await _prepare(services, principal, "cancel", key, order_no, body)
    answer = await services.commands.cancel(order_no, actor, body.reason, update_id)
    return command_out(answer)


@router.post("/orders/{order_no}/resolve", summary="处理异常订单")
async def resolve(
    order_no: OrderNo, body: ResolveBody, services: ServicesDep, principal: Desk, key: IdempotencyKey
) -> CommandOut:
    """Carry out a decision about an order that needs a person; what costs money needs a manager."""
    if not may_resolve(principal.role, body.action):
        raise ProblemError(403, "forbidden", "没有权限", "请站长处理")
    _check_said(body)
    returned = body.action is ResolveAction.CASH_RETURNED

    def admit(conn: Connection) -> None:
        if returned and sum_of_refunds(conn, order_no, set(body.refund_nos)) != body.amount_fen:
            raise ProblemError(409, "changed", "应退金额已变化", "请收回点出的现金，刷新后核对")

    update_id = await _prepare(services, principal, "resolve", key, order_no, body, admit)
    command = ResolveCommand(
        actor=principal.subject,
        action=body.action,
        note=body.note,
        amount_fen=None if returned else body.amount_fen,
        by_cashier=principal.role is Role.CASHIER,
        need=body.need,
        refund_nos=tuple(body.refund_nos) if returned else (),
    )
    return command_out(await services.commands.resolve(order_no, command, update_id))


def _check_said(body: ResolveBody) -> None:
    """Raise ProblemError 422 for a decision that lacks what it is about, or says an amount that nothing is done with."""
    if body.amount_fen is not None and body.action not in _WITH_AMOUNT:
        words = "只有 charge_amount 和 cash_returned 才填写 amount_fen"
        raise ProblemError(422, "amount_unexpected", "不需要金额", words)
    if body.action is ResolveAction.CHARGE_AMOUNT and body.amount_fen is None:
        raise ProblemError(
            422, "amount_missing", "缺少金额", "charge_amount 须填写 amount_fen：核定的应收金额"
        )
    if body.action is not ResolveAction.CASH_RETURNED:
        if body.refund_nos:
            raise ProblemError(
                422, "refunds_unexpected", "不需要退款单号", "只有 cash_returned 才填写 refund_nos"
            )
        return
    if not body.need:
        words = "退现金须填写 need：处理时看到的订单待处理原因"
        raise ProblemError(422, "need_missing", "缺少处理原因", words)
    if body.amount_fen is None:
        words = "退现金须填写 amount_fen：已点给顾客的金额，即订单的 asked_fen"
        raise ProblemError(422, "amount_missing", "缺少金额", words)
    if not body.refund_nos:
        words = "退现金须填写 refund_nos：订单 asked_refunds 中各笔的 out_refund_no"
        raise ProblemError(422, "refunds_missing", "缺少退款单号", words)
