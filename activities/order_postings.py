"""How money enters and leaves an order's row and ledger; used inside a transaction of `order_money`."""

from dataclasses import replace
from datetime import datetime

from activities.order_opening import sale_journal
from activities.order_support import (
    MISMATCH,
    event,
    issue_receipt,
    lasting_need,
    moved,
    need,
    owed_now,
    refund_request,
    refund_row,
    view_of,
)
from activities.ports import Transaction
from activities.records import AttemptRecord, OrderPlace, OrderRecord, RefundRecord
from contracts.orders import PostedPayment, PostVerdict, SettledSale, SettleSale
from contracts.payment import PaymentOutcome, RefundRequest
from domain import ids, ledger
from domain.money import yuan
from domain.order import OrderStatus
from domain.payment import FOREIGN_CURRENCY, PayMethod, RefundKind

S = OrderStatus
_CANCELLED_ZH = "已取消，全额退款"
_TOO_LATE_ZH = "付款过晚，油枪已被占用，全额退款"
"""Why a prepayment goes straight back; a repeated post knows it by these words."""


def _payer(attempt: AttemptRecord) -> str:
    """Return who says that the money is there: the channel, or the person who took the cash."""
    if attempt.method.channel != "cash":
        return attempt.method.channel
    return f"staff:{attempt.cashier_id}" if attempt.cashier_id else "cashier"


def posted_before(
    tx: Transaction, order: OrderRecord, place: OrderPlace, attempt: AttemptRecord, now: datetime
) -> PostedPayment:
    """Answer a repeated post with what the first one meant, and with its refund while that is open.

    A success of nothing is asked for again as it was at first: no row says whether a person has seen it.
    """
    verdict = _first_verdict(tx, order, attempt)
    refund = open_refund(tx, order, attempt.out_trade_no)
    if verdict is PostVerdict.QUARANTINED and not _has_refund(tx, order, attempt):
        refund = refund_request(_mismatch_row(order, attempt, 0, now), attempt)
    return PostedPayment(view=view_of(order, place), verdict=verdict, refund=refund)


def _has_refund(tx: Transaction, order: OrderRecord, attempt: AttemptRecord) -> bool:
    return any(row.out_trade_no == attempt.out_trade_no for row in tx.payments.refunds_of(order.order_no))


def _mismatch_row(order: OrderRecord, attempt: AttemptRecord, amount_fen: int, now: datetime) -> RefundRecord:
    return refund_row(order, attempt.out_trade_no, MISMATCH, amount_fen, "到账金额不符退回", now)


def _first_verdict(tx: Transaction, order: OrderRecord, attempt: AttemptRecord) -> PostVerdict:
    """Return what money that is in the books meant when it came: a cashier must never hear "taken" for a surplus."""
    number = attempt.out_trade_no
    refunds = {row.out_refund_no: row for row in tx.payments.refunds_of(order.order_no)}
    if ids.out_refund_no(number, "surplus") in refunds:
        return PostVerdict.SURPLUS
    if order.paid_by != number:
        return PostVerdict.QUARANTINED
    whole = refunds.get(ids.out_refund_no(number, "all"))
    lost = whole is not None and whole.reason in (_CANCELLED_ZH, _TOO_LATE_ZH)
    return PostVerdict.NOZZLE_LOST if lost else PostVerdict.ACCEPTED


def open_refund(tx: Transaction, order: OrderRecord, out_trade_no: str | None) -> RefundRequest | None:
    """Return the channel request of an attempt's refund that is still owed."""
    for row in owed_now(tx.payments.refunds_of(order.order_no)):
        if row.status == RefundKind.SUCCEEDED or row.out_trade_no != out_trade_no:
            continue
        attempt = tx.payments.attempt(row.out_trade_no)
        if attempt is not None:
            return refund_request(row, attempt)
    return None


def owe(
    tx: Transaction, order: OrderRecord, amount_fen: int, purpose: str, reason: str, now: datetime
) -> RefundRequest | None:
    """Store a refund of the paying attempt and return its channel request."""
    attempt = tx.payments.attempt(order.paid_by or "")
    if attempt is None:
        raise LookupError(f"order {order.order_no} has money but no attempt that paid it")
    row = refund_row(order, attempt.out_trade_no, purpose, amount_fen, reason, now)
    tx.payments.insert_refund(row)
    return refund_request(row, attempt)


def return_all(
    tx: Transaction, order: OrderRecord, reason: str, actor: str, now: datetime
) -> tuple[OrderRecord, RefundRequest | None]:
    """Owe the whole prepayment back: journal, state, refund row and story."""
    tx.ledger.post(order.order_no, ledger.prepaid_returned(order.order_no, order.paid_fen), now)
    order = replace(moved(order, S.REFUNDING, now), end_reason=reason[:256], charge_fen=0)
    order = replace(order, needs_person=lasting_need(order))
    refund = owe(tx, order, order.paid_fen, "all", reason[:80], now)
    tx.orders.add_events((event(order, "return", "refunding", now, actor=actor, detail=reason),))
    tx.orders.save(replace(order, updated_at=now))
    return order, refund


def prepaid_received(
    tx: Transaction,
    order: OrderRecord,
    place: OrderPlace,
    attempt: AttemptRecord,
    cancelled: bool,
    now: datetime,
) -> PostedPayment:
    """Take a prepayment; without the fuelling point (or after a cancel) it goes straight back."""
    tx.ledger.post(
        order.order_no,
        ledger.prepaid_received(attempt.out_trade_no, attempt.method.channel, attempt.amount_fen),
        now,
    )
    order = replace(
        order,
        paid_fen=attempt.amount_fen,
        paid_by=attempt.out_trade_no,
        driver_id=order.driver_id or attempt.driver_id,
        cashier_id=order.cashier_id or attempt.cashier_id,
    )
    detail = f"{attempt.method.label_zh} {yuan(attempt.amount_fen)} 元"
    key = f"pay:{attempt.out_trade_no}"
    held = not cancelled and tx.stations.hold(order.fuelling_point_id, order.order_no, None, now)
    if held:
        order = moved(order, S.PAID, now)
        tx.orders.add_events(
            (
                event(
                    order,
                    key,
                    "paid",
                    now,
                    actor=_payer(attempt),
                    detail=detail,
                ),
            )
        )
        tx.orders.save(replace(order, updated_at=now))
        return PostedPayment(view=view_of(order, place), verdict=PostVerdict.ACCEPTED)
    tx.orders.add_events((event(order, key, "paid", now, actor=_payer(attempt), detail=detail),))
    reason = _CANCELLED_ZH if cancelled else _TOO_LATE_ZH
    if cancelled:
        tx.stations.release(order.fuelling_point_id, order.order_no)
    order, refund = return_all(tx, order, reason, "system", now)
    return PostedPayment(view=view_of(order, place), verdict=PostVerdict.NOZZLE_LOST, refund=refund)


def _knows_no_driver(attempt: AttemptRecord) -> bool:
    """Return whether a driver's own attempt does not say whose: one from before attempts kept their driver."""
    return attempt.method is PayMethod.WECHAT_JSAPI and attempt.driver_id is None


def receivable_paid(
    tx: Transaction, order: OrderRecord, place: OrderPlace, attempt: AttemptRecord, now: datetime
) -> PostedPayment:
    """Take the payment of a post-paid sale; the order is done, and it is the payer's, not the first one's who asked."""
    tx.ledger.post(
        order.order_no,
        ledger.receivable_paid(attempt.out_trade_no, attempt.method.channel, attempt.amount_fen),
        now,
    )
    order = replace(
        moved(order, S.COMPLETED, now),
        paid_fen=attempt.amount_fen,
        paid_by=attempt.out_trade_no,
        driver_id=order.driver_id if _knows_no_driver(attempt) else attempt.driver_id,
        cashier_id=attempt.cashier_id,
        needs_person=lasting_need(order),
    )
    detail = f"{attempt.method.label_zh} {yuan(attempt.amount_fen)} 元"
    key = f"pay:{attempt.out_trade_no}"
    tx.orders.add_events((event(order, key, "paid", now, actor=_payer(attempt), detail=detail),))
    issue_receipt(tx, order, place, now)
    tx.orders.save(replace(order, updated_at=now))
    return PostedPayment(view=view_of(order, place), verdict=PostVerdict.ACCEPTED)


def surplus(
    tx: Transaction, order: OrderRecord, place: OrderPlace, attempt: AttemptRecord, now: datetime
) -> PostedPayment:
    """Record money that the order may not keep and owe it back by the same channel (R13)."""
    tx.ledger.post(
        order.order_no,
        ledger.surplus_received(attempt.out_trade_no, attempt.method.channel, attempt.amount_fen),
        now,
    )
    row = refund_row(order, attempt.out_trade_no, "surplus", attempt.amount_fen, "重复付款退回", now)
    tx.payments.insert_refund(row)
    order = replace(order, surplus_fen=order.surplus_fen + attempt.amount_fen)
    detail = f"重复付款 {yuan(attempt.amount_fen)} 元，原路退回"
    key = f"pay:{attempt.out_trade_no}"
    tx.orders.add_events((event(order, key, "surplus", now, actor=_payer(attempt), detail=detail),))
    tx.orders.save(replace(order, updated_at=now))
    return PostedPayment(
        view=view_of(order, place),
        verdict=PostVerdict.SURPLUS,
        refund=refund_request(row, attempt),
    )


def quarantine(
    tx: Transaction,
    order: OrderRecord,
    place: OrderPlace,
    attempt: AttemptRecord,
    outcome: PaymentOutcome,
    now: datetime,
) -> PostedPayment:
    """Record money whose amount is not the attempt's: owed back in the books, paid out once a person says so (R08).

    A success of nothing owes nothing, so it has no refund row; its request only asks a person to have seen it.
    """
    row = _mismatch_row(order, attempt, max(outcome.amount_fen, 0), now)
    if row.amount_fen:
        tx.payments.insert_refund(row)
        tx.ledger.post(
            order.order_no,
            ledger.surplus_received(attempt.out_trade_no, attempt.method.channel, outcome.amount_fen),
            now,
        )
    order = replace(
        order,
        needs_person=need(order, "payment_amount_mismatch"),
        surplus_fen=order.surplus_fen + row.amount_fen,
    )
    detail = f"渠道金额 {yuan(outcome.amount_fen)} 元与应付 {yuan(attempt.amount_fen)} 元不符"
    if outcome.code == FOREIGN_CURRENCY:
        detail = f"渠道以外币到账 {outcome.message}，未入账；请在商户平台退款后再放行"
    tx.orders.add_events((event(order, f"pay:{attempt.out_trade_no}", "quarantined", now, detail=detail),))
    tx.orders.save(replace(order, updated_at=now))
    return PostedPayment(
        view=view_of(order, place), verdict=PostVerdict.QUARANTINED, refund=refund_request(row, attempt)
    )


def decided_credit_sale(
    tx: Transaction, order: OrderRecord, place: OrderPlace, request: SettleSale, now: datetime
) -> SettledSale:
    """Post a flagged post-paid sale at the amount that a person decided; zero ends it."""
    if order.charge_fen == 0:
        order = replace(moved(order, S.CANCELLED, now), end_reason=request.note[:256])
    else:
        tx.ledger.post(order.order_no, sale_journal(order, place), now)
    detail = f"核定金额 {yuan(order.charge_fen)} 元（{request.note}）"
    tx.orders.add_events((event(order, "decide", "decided", now, actor=request.actor, detail=detail),))
    tx.orders.save(replace(order, updated_at=now))
    return SettledSale(view=view_of(order, place))
