"""The story of one order for its page: a timeline, and the tables behind it."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from api.approval import people_of
from api.console import labels
from api.console.labels import amount_with_unit, money_text
from db.tables.identity import Driver, Staff
from db.tables.ledger import LedgerEntry, LedgerJournal
from db.tables.order import FuelOrder, OrderEvent, Receipt, Sale
from db.tables.payment import PaymentAttempt, Refund


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of the timeline: when, what, who, and a few words more."""

    at: datetime
    what: str
    who: str
    detail: str
    icon: str
    colour: str

    @property
    def at_text(self) -> str:
        """Return the time as shown."""
        return labels.time_text(self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLines:
    """A journal with its entries as (side, account, amount) texts."""

    memo: str
    key: str
    at: str
    lines: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything the order page shows below the facts."""

    moments: tuple[Moment, ...]
    attempts: tuple[PaymentAttempt, ...]
    refunds: tuple[Refund, ...]
    sale: Sale | None
    journals: tuple[JournalLines, ...]
    receipt_no: str
    phone_cipher: str | None


def tell(db: Session, order: FuelOrder) -> Story:
    """Read the order's story; nine short queries by indexed keys."""
    number = order.order_no
    events = db.scalars(
        select(OrderEvent)
        .where(col(OrderEvent.order_no) == number)
        .order_by(col(OrderEvent.at), col(OrderEvent.id))
    ).all()
    attempts = tuple(
        db.scalars(
            select(PaymentAttempt)
            .where(col(PaymentAttempt.order_no) == number)
            .order_by(col(PaymentAttempt.number))
        )
    )
    refunds = tuple(
        db.scalars(select(Refund).where(col(Refund.order_no) == number).order_by(col(Refund.created_at)))
    )
    sale = db.scalars(select(Sale).where(col(Sale.order_no) == number)).one_or_none()
    receipt = db.scalars(select(Receipt).where(col(Receipt.order_no) == number)).one_or_none()
    driver = db.get(Driver, order.driver_id) if order.driver_id else None
    names = _staff_names(db, [e.actor for e in events])
    told = {e.key for e in events}
    moments = [
        *(_of_event(e, names) for e in events),
        *(m for a in attempts for m in _of_attempt(a, f"pay:{a.out_trade_no}" in told)),
        *(m for r in refunds for m in _of_refund(r, f"refund:{r.out_refund_no}" in told)),
        *([_of_sale(sale)] if sale and not any(e.kind == "dispensed" for e in events) else []),
    ]
    return Story(
        moments=tuple(sorted(moments, key=lambda m: m.at)),
        attempts=attempts,
        refunds=refunds,
        sale=sale,
        journals=_journals(db, number),
        receipt_no=receipt.receipt_no if receipt else "",
        phone_cipher=driver.phone_cipher if driver else None,
    )


def _staff_names(db: Session, actors: list[str]) -> dict[int, str]:
    people = [one for actor in actors for one in people_of(actor)]
    ids = {int(a.removeprefix("staff:")) for a in people if a.startswith("staff:") and a[6:].isdigit()}
    if not ids:
        return {}
    return {s.id or 0: s.name for s in db.scalars(select(Staff).where(col(Staff.id).in_(ids)))}


def _of_event(event: OrderEvent, staff_names: dict[int, str]) -> Moment:
    status = labels.ORDER_STATUS.get(event.status, event.status)
    what = labels.EVENT.get(event.kind, event.kind)
    return Moment(
        at=event.at,
        what=f"{what} · {status}" if status and status != what else what,
        who=labels.actor_text(event.actor, staff_names),
        detail=labels.ATTENTION.get(event.detail, event.detail),
        icon="fa-solid fa-circle-dot",
        colour=labels.ORDER_STATUS_COLOURS.get(status, "blue"),
    )


def _of_attempt(attempt: PaymentAttempt, end_is_told: bool) -> list[Moment]:
    method = labels.METHOD.get(attempt.method, attempt.method)
    screen = labels.SCREEN.get(attempt.screen, attempt.screen)
    words = f"{method} {money_text(attempt.amount_fen)}"
    moments = [
        Moment(
            at=attempt.created_at,
            what=f"发起第 {attempt.number} 次支付：{words}",
            who=screen or "系统",
            detail=attempt.out_trade_no,
            icon="fa-solid fa-qrcode",
            colour="azure",
        )
    ]
    if attempt.paid_at is not None and not end_is_told:
        moments.append(
            Moment(
                at=attempt.paid_at,
                what=f"付款成功：{words}",
                who="收银台" if attempt.method == "cash" else "微信支付",
                detail=attempt.transaction_id,
                icon="fa-solid fa-check",
                colour="green",
            )
        )
    return moments


def _of_refund(refund: Refund, end_is_told: bool) -> list[Moment]:
    moments = [
        Moment(
            at=refund.created_at,
            what=f"发起退款：{money_text(refund.amount_fen)}",
            who="系统",
            detail=refund.out_refund_no,
            icon="fa-solid fa-rotate-left",
            colour="purple",
        )
    ]
    if refund.finished_at is not None and not end_is_told:
        moments.append(
            Moment(
                at=refund.finished_at,
                what=f"退款{labels.REFUND_STATUS.get(refund.status, refund.status)}：{money_text(refund.amount_fen)}",
                who="支付渠道",
                detail=refund.refund_id,
                icon="fa-solid fa-rotate-left",
                colour="green" if refund.status == "succeeded" else "red",
            )
        )
    return moments


def _of_sale(sale: Sale) -> Moment:
    quantity = amount_with_unit(sale.quantity_milli, sale.unit)
    return Moment(
        at=sale.recorded_at,
        what=f"油机加注结束：{quantity}，{money_text(sale.amount_fen)}",
        who="油机（断线补传）" if sale.offline else "油机",
        detail=labels.END_REASON.get(sale.end_reason, sale.end_reason),
        icon="fa-solid fa-gas-pump",
        colour="cyan",
    )


def _journals(db: Session, order_no: str) -> tuple[JournalLines, ...]:
    query = (
        select(LedgerJournal).where(col(LedgerJournal.order_no) == order_no).order_by(col(LedgerJournal.id))
    )
    journals = db.scalars(query).all()
    lines = entry_lines(db, [j.id for j in journals if j.id is not None])
    return tuple(
        JournalLines(
            memo=labels.MEMO.get(j.memo, j.memo),
            key=j.key,
            at=labels.time_text(j.posted_at),
            lines=lines.get(j.id or 0, ()),
        )
        for j in journals
    )


def entry_lines(db: Session, journal_ids: list[int]) -> dict[int, tuple[tuple[str, str, str], ...]]:
    """Return the entries of journals as (side, account, amount) texts, debits first as posted."""
    query = (
        select(LedgerEntry).where(col(LedgerEntry.journal_id).in_(journal_ids)).order_by(col(LedgerEntry.id))
    )
    found: dict[int, tuple[tuple[str, str, str], ...]] = {}
    for entry in db.scalars(query):
        account = f"{entry.account} {labels.ACCOUNT.get(entry.account, '')}".strip()
        line = (labels.SIDE.get(entry.side, entry.side), account, money_text(entry.amount_fen))
        found[entry.journal_id] = (*found.get(entry.journal_id, ()), line)
    return found
