"""Steps of an order that move no money: authorised, flagged, ended without payment, a shortfall decided."""

from dataclasses import replace

from temporalio import activity

from activities.order_support import Clock, event, lasting_need, locked, moved, need, view_of
from activities.ports import UnitOfWork
from contracts import names
from contracts.orders import EndOrder, FlagOrder, OrderView, RecordAuthorised, ResolveShortfall
from domain import ledger
from domain.money import yuan
from domain.order import FillMode, OrderStatus


class OrderStepActivities:
    """One transaction each, safe to repeat."""

    def __init__(self, uow: UnitOfWork, clock: Clock) -> None:
        self._uow, self._clock = uow, clock

    @activity.defn(name=names.ACT_TAKE_COMMAND)
    async def take_command(self, command_id: str) -> None:
        """Ask nothing of the database: that this was asked for completes the workflow task that took the command."""
        activity.logger.info("a person's command %s stands in the history", command_id)

    @activity.defn(name=names.ACT_RECORD_AUTHORISED)
    def record_authorised(self, request: RecordAuthorised) -> OrderView:
        """Keep that the dispenser has the preset; a sale that overtook it wins."""
        now = self._clock()
        with self._uow() as tx:
            order, place = locked(tx, request.order_no)
            if order.status is not OrderStatus.PAID:
                return view_of(order, place)
            order = replace(
                moved(order, OrderStatus.AUTHORISED, now), needs_person=lasting_need(order), updated_at=now
            )
            detail = f"已授权，限额 {yuan(order.preset_fen)} 元，请提枪加注"
            tx.orders.save(order)
            tx.orders.add_events((event(order, "authorise", "authorised", now, detail=detail),))
            return view_of(order, place)

    @activity.defn(name=names.ACT_FLAG_ORDER)
    def flag_order(self, request: FlagOrder) -> OrderView:
        """Say that a person is needed, or no longer; a decision about the sale is not hidden by another matter."""
        now = self._clock()
        with self._uow() as tx:
            order, place = locked(tx, request.order_no)
            reason = need(order, request.reason)
            if request.clears and order.needs_person != request.clears:
                reason = order.needs_person
            if order.needs_person == reason and not request.note:
                return view_of(order, place)
            order = replace(order, needs_person=reason, updated_at=now)
            tx.orders.save(order)
            if request.reason:
                key = f"attention:{request.reason}"
                tx.orders.add_events((event(order, key, "attention", now, detail=request.reason),))
            elif request.note:
                key = f"resolved:{int(now.timestamp() * 1000)}"
                done = event(order, key, "resolved", now, actor=request.actor, detail=request.note)
                tx.orders.add_events((done,))
            return view_of(order, place)

    @activity.defn(name=names.ACT_END_ORDER)
    def end_order(self, request: EndOrder) -> OrderView:
        """End an order that nobody paid; fuel that was delivered is written off. Money that was faster wins."""
        now = self._clock()
        with self._uow() as tx:
            order, place = locked(tx, request.order_no)
            if order.status not in (OrderStatus.AWAITING_PAYMENT, OrderStatus.UNPAID):
                return view_of(order, place)
            tx.stations.release(order.fuelling_point_id, order.order_no)
            if order.mode is FillMode.POSTPAID and order.charge_fen:
                journal = ledger.receivable_written_off(order.order_no, order.charge_fen)
                tx.ledger.post(order.order_no, journal, now)
            order = replace(
                moved(order, request.status, now),
                end_reason=request.reason[:256],
                needs_person=lasting_need(order),
                updated_at=now,
            )
            tx.orders.save(order)
            tx.orders.add_events(
                (event(order, "end", str(request.status), now, actor=request.actor, detail=request.reason),)
            )
            return view_of(order, place)

    @activity.defn(name=names.ACT_RESOLVE_SHORTFALL)
    def resolve_shortfall(self, request: ResolveShortfall) -> OrderView:
        """Post what a person decided about a shortfall; the order then ends."""
        now = self._clock()
        with self._uow() as tx:
            order, place = locked(tx, request.order_no)
            if order.shortfall_fen == 0:
                return view_of(order, place)
            shortfall = order.shortfall_fen
            journal = (
                ledger.shortfall_collected(order.order_no, "cash", shortfall)
                if request.collected
                else ledger.shortfall_written_off(order.order_no, shortfall)
            )
            tx.ledger.post(order.order_no, journal, now)
            order = replace(
                moved(order, OrderStatus.COMPLETED, now), shortfall_fen=0, needs_person="", updated_at=now
            )
            tx.orders.save(order)
            done = "补收现金" if request.collected else "核销差额"
            detail = f"{done} {yuan(shortfall)} 元（{request.note}）"
            tx.orders.add_events(
                (event(order, "shortfall", "resolved", now, actor=request.actor, detail=detail),)
            )
            return view_of(order, place)
