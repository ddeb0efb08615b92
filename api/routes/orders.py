"""Orders: one, mine, waiting for a change, the story, the receipt, paying and cancelling."""

from collections.abc import AsyncIterator, Collection
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy import Connection
from sse_starlette import EventSourceResponse, ServerSentEvent

from api.auth.roles import COUNTER, STAFF, Principal, Role, allow
from api.commands import check_driver_may_cancel, scope_of
from api.deps import ClientAddress, Services, ServicesDep
from api.errors import ProblemError, not_found
from api.idempotency import IdempotencyKey, bind
from api.paying import pay as pay_order
from api.presenting import command_out, cursor_of, order_out, read_cursor, receipt_out
from api.schemas.common import OrderNo
from api.schemas.orders import (
    CancelBody,
    CommandOut,
    OrderOut,
    OrdersOut,
    PayBody,
    PayOut,
    ReceiptOut,
    StoryLineOut,
)
from db.repositories import views
from db.repositories.asked import Asked, asked_of
from domain.order import OrderStatus

router = APIRouter(prefix="/v1/orders", tags=["订单"])
Reader = Annotated[Principal, Depends(allow(Role.DRIVER, Role.TERMINAL, *STAFF))]
Wait = Annotated[int, Query(ge=0, le=30, description="seconds to wait for a change since `since`")]
Since = Annotated[int, Query(ge=0, le=2**53, description="the `version` that the client has")]
Until = Annotated[
    list[OrderStatus],
    Query(
        max_length=len(OrderStatus),
        description="wait for one of these, or for the end, whatever comes before",
    ),
]
TradeNo = Annotated[
    str, Query(max_length=40, pattern=r"^[0-9A-Za-z]*$", description="the payment that this screen shows")
]
STREAM_LIMIT_S = 600
STEP_S = 20


def waits_of(principal: Principal) -> int:
    """Return how many waits a caller may have open at once: a phone shows one order, a counter a whole station."""
    return 20 if principal.role is Role.DRIVER else 200


def _asked(conn: Connection, principal: Principal, rows: list[views.OrderRow]) -> dict[str, Asked]:
    """Return what staff are asked to decide about; nobody else is told."""
    return asked_of(conn, [row for row in rows if row.needs_person]) if principal.role in STAFF else {}


async def read_order(services: Services, principal: Principal, order_no: str, mine: str = "") -> OrderOut:
    """Return an order that the caller may see; raises ProblemError 404 otherwise."""
    scope = scope_of(principal)

    def look(conn: Connection) -> tuple[views.OrderRow, Asked | None] | None:
        row = views.order_by_no(conn, order_no, scope)
        if row is None:
            return None
        return row, _asked(conn, principal, [row]).get(order_no)

    found = await services.db.read(look)
    if found is None:
        raise not_found("没有这个订单")
    return order_out(found[0], principal, mine=mine, asked=found[1])


async def wait_for_order(
    services: Services,
    principal: Principal,
    order_no: str,
    *,
    wait: int,
    since: int,
    until: Collection[str] = (),
    mine: str = "",
) -> OrderOut:
    """Return an order as soon as its version differs from `since`, at the latest after `wait` seconds.

    With `until` not before it has one of these statuses or has ended. Who may not see the order gets ProblemError
    404 at once, who waits too often already 503.
    """
    if not wait:
        return await read_order(services, principal, order_no, mine)

    def enough(status: str, version: int) -> bool:
        wanted = status in until if until else version != since
        return wanted or OrderStatus(status).is_final

    at_most = waits_of(principal)
    with services.watch.waiting(order_no, enough, caller=principal.subject, at_most=at_most) as waiter:
        order = await read_order(services, principal, order_no, mine)
        if enough(order.status, order.version):
            return order
        await waiter.wait(wait)
    return await read_order(services, principal, order_no, mine)


@router.get("", summary="我的订单")
async def my_orders(
    services: ServicesDep,
    principal: Annotated[Principal, Depends(allow(Role.DRIVER, *STAFF))],
    status: OrderStatus | None = None,
    station: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,32}$")] = None,
    cursor: Annotated[str, Query(max_length=120)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> OrdersOut:
    """Return a page of the driver's orders (staff: of their stations), newest first."""
    scope = scope_of(principal)
    before = read_cursor(cursor) if cursor else None

    def look(conn: Connection) -> tuple[list[views.OrderRow], dict[str, Asked]]:
        rows = views.orders(conn, scope, status=status, station_code=station, before=before, limit=limit + 1)
        return rows, _asked(conn, principal, rows[:limit])

    rows, asked = await services.db.read(look)
    page = rows[:limit]
    return OrdersOut(
        orders=[order_out(r, principal, asked=asked.get(r.order_no)) for r in page],
        next_cursor=cursor_of(page[-1]) if len(rows) > limit else "",
    )


@router.get("/{order_no}", summary="订单（可等待变化）")
async def one_order(
    order_no: OrderNo,
    services: ServicesDep,
    principal: Reader,
    wait: Wait = 0,
    since: Since = 0,
    until: Until = [],  # noqa: B006 - FastAPI copies it
) -> OrderOut:
    """Return an order; with `wait` not before it has changed `since`, or has come to a status of `until`."""
    return await wait_for_order(services, principal, order_no, wait=wait, since=since, until=until)


@router.get("/{order_no}/events", summary="订单变化（SSE）", response_class=EventSourceResponse)
async def order_events(order_no: OrderNo, services: ServicesDep, principal: Reader) -> EventSourceResponse:
    """Stream the order whenever it changes, until it has ended or ten minutes are over; then reconnect."""
    first = await read_order(services, principal, order_no)
    services.watch.check_room(principal.subject, waits_of(principal))
    return EventSourceResponse(_changes(services, principal, first), ping=15)


async def _changes(
    services: Services, principal: Principal, first: OrderOut
) -> AsyncIterator[ServerSentEvent]:
    order = first
    yield _event(order)
    for _ in range(STREAM_LIMIT_S // STEP_S):
        if order.is_final:
            return
        seen = order.version
        try:
            order = await wait_for_order(services, principal, order.order_no, wait=STEP_S, since=seen)
        except ProblemError:
            return  # the answer has begun, so it can only end; the client reconnects and is told why
        if order.version != seen:
            yield _event(order)


def _event(order: OrderOut) -> ServerSentEvent:
    return ServerSentEvent(order.model_dump_json(), event="order", id=str(order.version))


@router.get("/{order_no}/story", summary="订单经过")
async def order_story(
    order_no: OrderNo, services: ServicesDep, principal: Annotated[Principal, Depends(allow(*STAFF))]
) -> list[StoryLineOut]:
    """Return what happened to an order, line by line."""
    scope = scope_of(principal)

    def read(conn: Connection) -> list[StoryLineOut] | None:
        if views.order_by_no(conn, order_no, scope) is None:
            return None
        return [StoryLineOut.model_validate(e) for e in views.events(conn, order_no)]

    found = await services.db.read(read)
    if found is None:
        raise not_found("没有这个订单")
    return found


@router.get("/{order_no}/receipt", summary="电子凭证")
async def order_receipt(
    order_no: OrderNo,
    services: ServicesDep,
    principal: Reader,
) -> ReceiptOut:
    """Return the receipt of a completed order."""
    scope = scope_of(principal)
    row = await services.db.read(lambda conn: views.receipt_of(conn, order_no, scope))
    if row is None:
        raise not_found("没有这个订单，或还没有电子凭证")
    return receipt_out(row)


@router.post("/{order_no}/pay", summary="支付")
async def pay(
    order_no: OrderNo,
    body: PayBody,
    services: ServicesDep,
    principal: Annotated[Principal, Depends(allow(Role.DRIVER, Role.TERMINAL, *COUNTER))],
    key: IdempotencyKey,
) -> PayOut:
    """Pay an order: a driver by JSAPI, a screen by QR code or pay code, the counter by pay code."""
    return await pay_order(services, principal, order_no, body, key)


@router.post("/{order_no}/cancel", summary="取消")
async def cancel(
    order_no: OrderNo,
    body: CancelBody,
    services: ServicesDep,
    principal: Annotated[Principal, Depends(allow(Role.DRIVER, *COUNTER))],
    key: IdempotencyKey,
    address: ClientAddress,
) -> CommandOut:
    """Cancel an order before fuel flows; what was paid goes back. The counter may write off a sale, see `approver`."""
    actor = await services.approvals.actor_of_cancel(principal, order_no, body.approved_by(), address)
    scope, now = scope_of(principal), services.now()

    def prepare(conn: Connection) -> str:
        order = views.order_by_no(conn, order_no, scope)
        if order is None:
            raise not_found("没有这个订单")
        check_driver_may_cancel(principal, order)
        return bind(conn, principal, "cancel", key, order_no=order_no, body=body, now=now)

    update_id = await services.db.run(prepare)
    return command_out(await services.commands.cancel(order_no, actor, body.reason, update_id))
