"""Shared by the order activities: views, events, receipts and refunds built from rows. No I/O of its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from activities.errors import OrderUnknownError
from activities.ports import Transaction
from activities.records import (
    AttemptRecord,
    EventRecord,
    OrderPlace,
    OrderRecord,
    OutboxRecord,
    ReceiptRecord,
    RefundRecord,
)
from contracts.orders import OrderView
from contracts.payment import RefundRequest
from domain import ids
from domain.money import yuan
from domain.order import NEEDS_FOR_INFORMATION, FillMode, OrderStatus, move
from domain.payment import NEED_OF_REFUND, RETURN_CASH, RefundKind
from domain.quantity import Unit, quantity_text
from domain.settlement import CheckedAmount, SaleFlag

Clock = Callable[[], datetime]
"""Returns the present, UTC-aware."""
MISMATCH = "mismatch"
"""Purpose of the refund of a wrong amount; a person has to release it."""


def locked(tx: Transaction, order_no: str) -> tuple[OrderRecord, OrderPlace]:
    """Return the locked order and its place.

    Raises OrderUnknownError when there is none.
    """
    found = tx.orders.get_for_update(order_no)
    if found is None:
        raise OrderUnknownError(order_no)
    return found


def due_fen(order: OrderRecord) -> int:
    """Return what a payment has to bring, in fen."""
    return order.preset_fen if order.mode is FillMode.PREPAID else order.charge_fen


def view_of(order: OrderRecord, place: OrderPlace) -> OrderView:
    """Return what the workflow keeps of an order."""
    return OrderView(
        order_no=order.order_no,
        mode=order.mode,
        status=order.status,
        operator_code=place.operator_code,
        station_code=place.station_code,
        nozzle_no=place.nozzle_no,
        product_name=place.product_name,
        unit=order.unit,
        due_fen=due_fen(order),
        paid_fen=order.paid_fen,
        charge_fen=order.charge_fen,
        refunded_fen=order.refunded_fen,
        shortfall_fen=order.shortfall_fen,
        price_fen_per_unit=order.price_fen_per_unit,
        gateway_shard=place.gateway_shard,
        node=place.node,
        fp=place.fp,
        device_nozzle=place.device_nozzle,
        needs_person=order.needs_person,
    )


def moved(order: OrderRecord, status: OrderStatus, now: datetime) -> OrderRecord:
    """Return the order in its new state.

    Raises IllegalMoveError when the table does not allow it.
    """
    status = move(order.status, status)
    return replace(order, status=status, ended_at=now if status.is_final else None)


_DECISIONS = frozenset(SaleFlag) - {SaleFlag.NONE, SaleFlag.AMOUNT_CASE} | {"shortfall"}


_ONLY_WHILE = {
    "unpaid_too_long": OrderStatus.UNPAID,
    "close_unconfirmed": OrderStatus.AWAITING_PAYMENT,
    "dispenser_unanswered": OrderStatus.PAID,
    "fill_not_reported": OrderStatus.AUTHORISED,
}
"""What a workflow asks for because of the order's state: the order may have gone on before it is asked."""


def need(order: OrderRecord, reason: str) -> str:
    """Return what a person is needed for now: a decision about the sale is never hidden by another matter.

    What is for information hides nothing at all, and is hidden by everything else.
    """
    standing = order.needs_person
    moot = order.status is not _ONLY_WHILE.get(reason, order.status)
    hidden = standing in _DECISIONS or (standing and reason in NEEDS_FOR_INFORMATION)
    cash_first = standing == RETURN_CASH and reason in NEED_OF_REFUND.values()
    return standing if reason and (moot or hidden or cash_first) else reason[:64]


_OUTLIVES_THE_ORDER = ("payment_amount_mismatch",)
"""Reasons that a person still has to settle after the order has gone on or ended."""


def lasting_need(order: OrderRecord) -> str:
    """Return what a person is still needed for after a step that otherwise needs nobody any more."""
    return order.needs_person if order.needs_person in _OUTLIVES_THE_ORDER else ""


def event(
    order: OrderRecord, key: str, kind: str, now: datetime, *, actor: str = "system", detail: str = ""
) -> EventRecord:
    """Return one line of the story; `detail` is Chinese, for the person who reads it."""
    return EventRecord(
        order_no=order.order_no, key=key, at=now, kind=kind, status=order.status, actor=actor, detail=detail
    )


def case_events(order: OrderRecord, checked: CheckedAmount, now: datetime) -> tuple[EventRecord, ...]:
    """Return the case of a sale whose meter and platform differ by more than one fen, with both figures (003-K1)."""
    if not checked.is_case:
        return ()
    then = "超出允差，待人工核定" if checked.flag else "在允差内，按油机金额结算"
    detail = f"油机金额 {yuan(checked.charge_fen)} 元，单价×数量 {yuan(checked.platform_fen)} 元，相差超过 0.01 元；{then}"
    return (event(order, "case", "case", now, actor="dispenser", detail=detail),)


def flag_events(order: OrderRecord, why: str, now: datetime) -> tuple[EventRecord, ...]:
    """Return the line that says why a person has to look at a sale; nothing when that is told elsewhere."""
    if not why:
        return ()
    return (event(order, f"flag:{order.needs_person}", "flagged", now, actor="dispenser", detail=why),)


def refund_row(
    order: OrderRecord, out_trade_no: str, purpose: str, amount_fen: int, reason: str, now: datetime
) -> RefundRecord:
    """Return a new refund; its number is derived from the attempt and the purpose."""
    return RefundRecord(
        out_refund_no=ids.out_refund_no(out_trade_no, purpose),
        out_trade_no=out_trade_no,
        order_no=order.order_no,
        amount_fen=amount_fen,
        status=RefundKind.HELD if purpose == MISMATCH else RefundKind.PROCESSING,
        reason=reason,
        refund_id="",
        code="",
        created_at=now,
        finished_at=None,
    )


def owed_now(refunds: list[RefundRecord]) -> list[RefundRecord]:
    """Return the refunds that money is or was owed by: each under its latest number."""
    latest = ids.latest_refund_nos(row.out_refund_no for row in refunds)
    return [row for row in refunds if row.out_refund_no in latest]


def refund_request(row: RefundRecord, attempt: AttemptRecord) -> RefundRequest:
    """Return the channel request of a refund row; money of a wrong amount is all that its attempt had brought."""
    first = ids.first_refund_no(row.out_refund_no)
    mismatch = first == ids.out_refund_no(attempt.out_trade_no, MISMATCH)
    return RefundRequest(
        method=attempt.method,
        out_trade_no=row.out_trade_no,
        out_refund_no=row.out_refund_no,
        refund_fen=row.amount_fen,
        total_fen=row.amount_fen if mismatch else attempt.amount_fen,
        reason=row.reason,
        held=mismatch and row.status == RefundKind.HELD,
    )


def issue_receipt(tx: Transaction, order: OrderRecord, place: OrderPlace, now: datetime) -> None:
    """Issue the order's only receipt (001-4) and owe the driver the message with amount, nozzle and quantity (000-3)."""
    body = {
        "receipt_no": ids.receipt_no(order.order_no),
        "order_no": order.order_no,
        "station": place.station_name,
        "station_code": place.station_code,
        "nozzle_no": place.nozzle_no,
        "product": place.product_name,
        "quantity": quantity_text(order.quantity_milli),
        "unit": Unit(order.unit).label_zh,
        "price_yuan": yuan(order.price_fen_per_unit),
        "amount_yuan": yuan(order.charge_fen),
        "paid_yuan": yuan(order.paid_fen),
        "returned_yuan": yuan(max(order.paid_fen - order.charge_fen, 0)),
        "issued_at": now.isoformat(),
    }
    text = json.dumps(body, ensure_ascii=False, sort_keys=True)
    tx.orders.insert_receipt(
        ReceiptRecord(
            receipt_no=ids.receipt_no(order.order_no), order_no=order.order_no, issued_at=now, body=text
        )
    )
    if order.driver_id is not None:
        tx.orders.insert_outbox(
            OutboxRecord(
                key=f"receipt:{order.order_no}",
                kind="receipt",
                order_no=order.order_no,
                driver_id=order.driver_id,
                body=text,
                at=now,
            )
        )
