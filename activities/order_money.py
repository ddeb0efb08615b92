"""Money of an order: payments that arrived, sales that settle, refunds that are owed or done.

Each method is one transaction; the ledger journal, the order row and its story change together or not at all.
"""

import json
from dataclasses import replace
from datetime import datetime

from temporalio import activity

from activities.order_postings import (
    decided_credit_sale,
    open_refund,
    owe,
    posted_before,
    prepaid_received,
    quarantine,
    receivable_paid,
    return_all,
    surplus,
)
from activities.order_support import (
    Clock,
    case_events,
    due_fen,
    event,
    flag_events,
    issue_receipt,
    lasting_need,
    locked,
    moved,
    owed_now,
    refund_request,
    view_of,
)
from activities.ports import Transaction, UnitOfWork
from activities.records import AttemptRecord, OrderPlace, OrderRecord, RefundRecord
from activities.sale_checks import JudgedSale, book_sale, judge_ordered
from contracts import names
from contracts.orders import (
    OwedRefund,
    OweRefund,
    PostedPayment,
    PostPayment,
    RecordAttempt,
    RecordRefund,
    RenewRefund,
    SettledSale,
    SettleSale,
)
from contracts.payment import PaymentOutcome
from domain import ids, ledger
from domain.money import yuan
from domain.order import FillMode, OrderStatus
from domain.payment import COUNTER, AttemptStatus, OutcomeKind, RefundKind
from domain.quantity import Unit, quantity_text
from domain.settlement import SaleFlag, settle_prepaid

S = OrderStatus


class OrderMoneyActivities:
    """Posts payments, sales and refunds."""

    def __init__(self, uow: UnitOfWork, clock: Clock) -> None:
        self._uow, self._clock = uow, clock

    @activity.defn(name=names.ACT_RECORD_ATTEMPT)
    def record_attempt(self, request: RecordAttempt) -> None:
        """Keep the code that a screen shows, or that an attempt failed or was closed; a succeeded one is left alone."""
        outcome = request.outcome
        with self._uow() as tx:
            locked(tx, ids.order_no_of_trade(outcome.out_trade_no))
            attempt = tx.payments.attempt(outcome.out_trade_no)
            if attempt is None or attempt.status is not AttemptStatus.OPEN:
                return
            status = AttemptStatus.OPEN
            if outcome.client_params:
                attempt = replace(attempt, client_params=json.dumps(outcome.client_params))
            if request.closed:
                status = AttemptStatus.CLOSED
            elif outcome.kind is OutcomeKind.FAILED:
                status = AttemptStatus.FAILED
            tx.payments.save_attempt(replace(attempt, status=status, code=outcome.code[:64]))

    @activity.defn(name=names.ACT_POST_PAYMENT)
    def post_payment(self, request: PostPayment) -> PostedPayment:
        """Post money that the channel confirmed: to the order, or as a surplus that goes back. Once per attempt."""
        now, outcome = self._clock(), request.outcome
        with self._uow() as tx:
            order, place = locked(tx, request.order_no)
            attempt = tx.payments.attempt(outcome.out_trade_no)
            if attempt is None:
                raise LookupError(f"no attempt {outcome.out_trade_no}")
            if attempt.status is AttemptStatus.SUCCEEDED:
                return posted_before(tx, order, place, attempt, now)
            attempt = replace(
                attempt,
                status=AttemptStatus.SUCCEEDED,
                transaction_id=outcome.transaction_id,
                payer_fen=outcome.payer_amount_fen,
                paid_at=outcome.paid_at or now,
                code=outcome.code[:64],
            )
            tx.payments.save_attempt(attempt)
            return self._accept(tx, order, place, attempt, outcome, request.cancelled, now)

    def _accept(
        self,
        tx: Transaction,
        order: OrderRecord,
        place: OrderPlace,
        attempt: AttemptRecord,
        outcome: PaymentOutcome,
        cancelled: bool,
        now: datetime,
    ) -> PostedPayment:
        """Decide what the money means: the order's, a surplus, or nobody's until a person looked."""
        if outcome.amount_fen != attempt.amount_fen:
            return quarantine(tx, order, place, attempt, outcome, now)
        payable = order.status in (S.AWAITING_PAYMENT, S.UNPAID) and order.paid_fen == 0
        if not payable or (order.mode is FillMode.POSTPAID and attempt.amount_fen != due_fen(order)):
            return surplus(tx, order, place, attempt, now)
        if order.mode is FillMode.PREPAID:
            return prepaid_received(tx, order, place, attempt, cancelled, now)
        return receivable_paid(tx, order, place, attempt, now)

    @activity.defn(name=names.ACT_SETTLE_SALE)
    def settle_sale(self, request: SettleSale) -> SettledSale:
        """Record a prepaid order's sale and settle it; a flagged sale is recorded and left to a person."""
        now, sale = self._clock(), request.sale
        with self._uow() as tx:
            order, place = locked(tx, request.order_no)
            if order.charge_fen > 0 or order.status not in (S.PAID, S.AUTHORISED, S.UNPAID):
                return SettledSale(view=view_of(order, place), refund=open_refund(tx, order, order.paid_by))
            judged, decided = judge_ordered(sale, order, place), request.charge_fen is not None
            if tx.orders.sale_of(order.order_no) is None:
                judged = book_sale(tx, judged, order, decided=decided)
                if case := case_events(order, judged.amounts, now):
                    tx.orders.add_events(case)
            order = replace(order, quantity_milli=judged.sale.quantity_milli)
            if judged.flag and not decided:
                return self._leave_to_person(tx, order, place, judged, now)
            charge = judged.amounts.charge_fen if request.charge_fen is None else request.charge_fen
            order = replace(order, charge_fen=charge, needs_person=lasting_need(order))
            if order.mode is FillMode.POSTPAID:
                return decided_credit_sale(tx, order, place, request, now)
            return self._settle(tx, order, place, request, now)

    def _leave_to_person(
        self, tx: Transaction, order: OrderRecord, place: OrderPlace, judged: JudgedSale, now: datetime
    ) -> SettledSale:
        """Keep the sale for a decision; the fill has ended, so the pump sells again, unless its sale is a guess."""
        if judged.flag is not SaleFlag.SYNTHESISED:
            tx.stations.release(order.fuelling_point_id, order.order_no)
        order = replace(order, needs_person=judged.flag.value)
        tx.orders.save(replace(order, updated_at=now))
        tx.orders.add_events(flag_events(order, judged.why or "油机数据需人工核对，尚未扣款", now))
        return SettledSale(view=view_of(order, place), flagged=judged.flag.value)

    def _settle(
        self, tx: Transaction, order: OrderRecord, place: OrderPlace, request: SettleSale, now: datetime
    ) -> SettledSale:
        """Use the prepayment: nothing dispensed -> all back; less -> the rest back; more -> a shortfall for a person."""
        tx.stations.release(order.fuelling_point_id, order.order_no)
        if order.charge_fen == 0:
            reason = "未加注，全额退款"
            order, refund = return_all(tx, order, reason, request.actor, now)
            return SettledSale(view=view_of(order, place), refund=refund)
        split = settle_prepaid(paid_fen=order.paid_fen, charge_fen=order.charge_fen)
        tx.ledger.post(
            order.order_no,
            ledger.prepaid_settled(
                order.order_no,
                charge_fen=split.charge_fen,
                rest_fen=split.rest_fen,
                shortfall_fen=split.shortfall_fen,
                gas=place.product_kind == "gas",
                tax_rate_bp=place.tax_rate_bp,
            ),
            now,
        )
        done = split.rest_fen == 0 and split.shortfall_fen == 0
        order = replace(
            moved(order, S.COMPLETED if done else S.DISPENSED, now),
            shortfall_fen=split.shortfall_fen,
            needs_person="shortfall" if split.shortfall_fen else order.needs_person,
        )
        refund = None
        if split.rest_fen:
            refund = owe(tx, order, split.rest_fen, "rest", "加注余款退回", now)
        unit = Unit(order.unit).label_zh
        detail = f"{quantity_text(order.quantity_milli)} {unit}，{yuan(order.charge_fen)} 元"
        if request.note:
            detail += f"（{request.note}）"
        tx.orders.add_events((event(order, "settle", "settled", now, actor=request.actor, detail=detail),))
        issue_receipt(tx, order, place, now)
        tx.orders.save(replace(order, updated_at=now))
        return SettledSale(view=view_of(order, place), refund=refund)

    @activity.defn(name=names.ACT_OWE_REFUND)
    def owe_refund(self, request: OweRefund) -> OwedRefund:
        """Decide that the whole prepayment goes back; a repeated call meets the same refund, a settled sale stands."""
        now = self._clock()
        with self._uow() as tx:
            order, place = locked(tx, request.order_no)
            if order.status not in (S.PAID, S.AUTHORISED):
                return OwedRefund(view=view_of(order, place), refund=open_refund(tx, order, order.paid_by))
            tx.stations.release(order.fuelling_point_id, order.order_no)
            order, refund = return_all(tx, order, request.reason, request.actor, now)
            return OwedRefund(view=view_of(order, place), refund=refund)

    @activity.defn(name=names.ACT_RECORD_REFUND)
    def record_refund(self, request: RecordRefund) -> OwedRefund:
        """Keep how a refund stands; on success post it once and, when it was the last, end the order."""
        now, outcome = self._clock(), request.outcome
        with self._uow() as tx:
            order, place = locked(tx, request.order_no)
            refunds = tx.payments.refunds_of(order.order_no)
            row = next((r for r in refunds if r.out_refund_no == outcome.out_refund_no), None)
            if row is None or row.status == RefundKind.SUCCEEDED:
                return OwedRefund(view=view_of(order, place))
            done = outcome.kind is RefundKind.SUCCEEDED
            row = replace(
                row,
                status=outcome.kind.value,
                refund_id=outcome.refund_id,
                code=outcome.code[:64],
                finished_at=now if done else None,
            )
            tx.payments.save_refund(row)
            if done:
                order = self._refund_done(tx, order, row, refunds, request, now)
            else:  # what a person is asked for may be another sum now: whoever waits for a change is told
                tx.orders.save(replace(order, updated_at=now))
            return OwedRefund(view=view_of(order, place))

    @activity.defn(name=names.ACT_RENEW_REFUND)
    def renew_refund(self, request: RenewRefund) -> OwedRefund:
        """Owe a closed refund's money under the next number, the old row stays closed; repeated, it meets that row.

        Only a number that its channel has closed is replaced: the channel answers it CLOSED for ever.
        """
        now = self._clock()
        with self._uow() as tx:
            order, place = locked(tx, request.order_no)
            rows = {row.out_refund_no: row for row in tx.payments.refunds_of(order.order_no)}
            old, number = rows.get(request.out_refund_no), ids.next_refund_no(request.out_refund_no)
            attempt = tx.payments.attempt(old.out_trade_no) if old else None
            if old is None or attempt is None or old.status != RefundKind.CLOSED:
                return OwedRefund(view=view_of(order, place))
            row = rows.get(number)
            if row is None:
                row = replace(
                    old,
                    out_refund_no=number,
                    status=RefundKind.PROCESSING.value,
                    refund_id="",
                    code="",
                    created_at=now,
                    finished_at=None,
                )
                tx.payments.insert_refund(row)
                detail = f"渠道已关闭原退款单，换新单号重新退款 {yuan(row.amount_fen)} 元"
                tx.orders.add_events((event(order, f"renew:{number}", "resolved", now, detail=detail),))
            return OwedRefund(view=view_of(order, place), refund=refund_request(row, attempt))

    def _refund_done(
        self,
        tx: Transaction,
        order: OrderRecord,
        row: RefundRecord,
        refunds: list[RefundRecord],
        request: RecordRefund,
        now: datetime,
    ) -> OrderRecord:
        attempt = tx.payments.attempt(row.out_trade_no)
        channel = attempt.method.channel if attempt else "wechat"
        instead = row.code == COUNTER and channel != "cash"
        if row.code == COUNTER:
            channel = "cash"
        tx.ledger.post(order.order_no, ledger.refund_paid(row.out_refund_no, channel, row.amount_fen), now)
        order = replace(order, refunded_fen=order.refunded_fen + row.amount_fen)
        others_open = any(
            r.status != RefundKind.SUCCEEDED
            and r.out_refund_no != row.out_refund_no
            and r.out_trade_no == order.paid_by
            for r in owed_now(refunds)
        )
        if row.out_trade_no == order.paid_by and not others_open:
            if order.status is S.REFUNDING:
                order = moved(order, S.REFUNDED, now)
            elif order.status is S.DISPENSED and order.shortfall_fen == 0:
                order = moved(order, S.COMPLETED, now)
        how = "渠道未能退款，已退现金" if instead else "已退"
        detail = f"{how} {yuan(row.amount_fen)} 元" + (f"（{request.note}）" if request.note else "")
        tx.orders.add_events(
            (
                event(
                    order, f"refund:{row.out_refund_no}", "refunded", now, actor=request.actor, detail=detail
                ),
            )
        )
        tx.orders.save(replace(order, updated_at=now))
        return order
