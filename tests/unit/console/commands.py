"""A stateful stand-in for the commands: it answers and changes the rows as the workflow would."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine
from sqlmodel import Session, select

from api.approval import Approver, needs_approval
from api.auth.roles import Principal
from api.console import CommandUnavailableError
from contracts.fill import CommandAnswer, ResolveCommand
from db.tables.identity import Staff
from db.tables.order import FuelOrder, OrderEvent
from domain.money import yuan
from domain.order import OrderStatus, move
from tests.unit.console.world import PASSWORD


@dataclass
class FakeCommands:
    """Keeps what it was told; `away` plays a workflow engine that does not answer."""

    engine: Engine
    now: datetime
    told: list[tuple[str, ...]] = field(default_factory=list)
    away: bool = False

    async def take_cash(self, order_no: str, cashier_id: int, received_fen: int) -> CommandAnswer:
        """Pay an unpaid order in cash, whole or not at all."""
        self._hear("take_cash", order_no, str(cashier_id), str(received_fen))
        with Session(self.engine) as db:
            order = self._order(db, order_no)
            if order.status != OrderStatus.UNPAID:
                return self._refuse(order, "already_paid", "订单已由其他终端支付")
            if received_fen != order.charge_fen:
                return self._refuse(order, "amount_mismatch", "")
            order.paid_fen = received_fen
            order.cashier_id = cashier_id
            detail = f"收现金 ¥{yuan(received_fen)}"
            return self._end(db, order, OrderStatus.COMPLETED, "paid", f"staff:{cashier_id}", detail)

    async def cancel(
        self, order_no: str, person: Principal, reason: str, approver: Approver | None, address: str
    ) -> CommandAnswer:
        """Cancel an order that nobody has paid; a cashier not without a manager."""
        self._hear("cancel", order_no, person.subject, reason, approver.login if approver else "")
        with Session(self.engine) as db:
            order, actor = self._order(db, order_no), person.subject
            if needs_approval(person.role, order.status):
                if approver is None:
                    return self._refuse(order, "approval_needed", "须由本站站长批准")
                second = db.exec(select(Staff).where(Staff.login == approver.login)).first()
                if second is None or second.role != "manager" or approver.password != PASSWORD:
                    return self._refuse(order, "approval_refused", "站长账号或密码不正确")
                actor = f"{actor} (approved staff:{second.id})"
            if order.status != OrderStatus.UNPAID:
                return self._refuse(order, "not_cancellable", "")
            order.end_reason = reason
            return self._end(db, order, OrderStatus.CANCELLED, "cancelled", actor, reason)

    async def resolve(self, order_no: str, command: ResolveCommand) -> CommandAnswer:
        """Take a decision and lower the flag."""
        amount_fen, refunds = command.amount_fen, command.refund_nos
        said = (command.actor, command.action.value, command.note, str(amount_fen), command.need)
        self._hear("resolve", order_no, *said, *refunds)
        with Session(self.engine) as db:
            order = self._order(db, order_no)
            if not order.needs_person:
                return self._refuse(order, "not_needed", "")
            order.needs_person = ""
            if amount_fen is not None:
                order.charge_fen = amount_fen
            return self._end(db, order, OrderStatus.COMPLETED, "decided", command.actor, command.note)

    def _hear(self, *words: str) -> None:
        if self.away:
            raise CommandUnavailableError("no worker")
        self.told.append(words)

    def _order(self, db: Session, order_no: str) -> FuelOrder:
        order = db.get(FuelOrder, order_no, with_for_update=True)
        assert order is not None, order_no
        return order

    def _refuse(self, order: FuelOrder, code: str, message: str) -> CommandAnswer:
        return CommandAnswer(ok=False, status=OrderStatus(order.status), code=code, message=message)

    def _end(
        self, db: Session, order: FuelOrder, status: OrderStatus, kind: str, actor: str, detail: str
    ) -> CommandAnswer:
        order.status = move(OrderStatus(order.status), status).value
        order.updated_at = order.ended_at = self.now
        db.add(
            OrderEvent(
                order_no=order.order_no,
                key=kind,
                at=self.now,
                kind=kind,
                status=order.status,
                actor=actor,
                detail=detail,
            )
        )
        db.commit()
        return CommandAnswer(ok=True, status=status)
