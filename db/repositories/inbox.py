"""The API's inbox: channel notifications, stored before they are handled, and claims of idempotency keys."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from db.tables.inbox import InboxMessage
from db.tables.order import FuelOrder
from db.tables.payment import PaymentAttempt
from db.tables.station import Operator, Station

SOURCE_WECHAT = "wechat"
SOURCE_COMMANDS = "api"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMessage:
    """A stored message that nobody has handled yet."""

    source: str
    external_id: str
    kind: str
    body: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFacts:
    """What we know about the attempt that a notification names; amount in fen."""

    order_no: str
    amount_fen: int
    paid_by: str | None
    station_code: str
    operator_code: str


def store(
    conn: Connection,
    *,
    source: str,
    external_id: str,
    kind: str,
    business_no: str,
    body: str,
    now: datetime,
) -> bool:
    """Insert a message once; return False when it was there before."""
    values = {
        "source": source,
        "external_id": external_id,
        "kind": kind,
        "business_no": business_no,
        "body": body,
        "received_at": now,
        "outcome": "",
        "attempts": 0,
    }
    statement = insert(InboxMessage).values(values).on_conflict_do_nothing()
    return conn.execute(statement.returning(col(InboxMessage.external_id))).scalar() is not None


def is_handled(conn: Connection, source: str, external_id: str) -> bool:
    """Return whether a stored message was handled."""
    statement = select(col(InboxMessage.handled_at)).where(
        col(InboxMessage.source) == source, col(InboxMessage.external_id) == external_id
    )
    return conn.execute(statement).scalar() is not None


def mark_handled(conn: Connection, source: str, external_id: str, *, outcome: str, now: datetime) -> None:
    """Record how a message ended; only the first record counts."""
    conn.execute(
        update(InboxMessage)
        .where(
            col(InboxMessage.source) == source,
            col(InboxMessage.external_id) == external_id,
            col(InboxMessage.handled_at).is_(None),
        )
        .values(handled_at=now, outcome=outcome)
    )


def lock_open(conn: Connection, source: str, *, before: datetime, limit: int) -> list[OpenMessage]:
    """Return unhandled messages older than `before`, locked; rows that another process holds are passed over.

    Messages that failed often come last, so that one poisoned row cannot keep the others waiting.
    """
    statement = (
        select(
            col(InboxMessage.source),
            col(InboxMessage.external_id),
            col(InboxMessage.kind),
            col(InboxMessage.body),
            col(InboxMessage.attempts),
        )
        .where(
            col(InboxMessage.source) == source,
            col(InboxMessage.handled_at).is_(None),
            col(InboxMessage.received_at) < before,
        )
        .order_by(col(InboxMessage.attempts), col(InboxMessage.received_at))
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [OpenMessage(**row) for row in conn.execute(statement).mappings()]


def count_attempts(conn: Connection, source: str, external_ids: Iterable[str]) -> None:
    """Count one more try to handle these messages."""
    conn.execute(
        update(InboxMessage)
        .where(col(InboxMessage.source) == source, col(InboxMessage.external_id).in_(list(external_ids)))
        .values(attempts=col(InboxMessage.attempts) + 1)
    )


_ATTEMPT_FACTS: Select[*tuple[Any, ...]] = (
    select(
        col(PaymentAttempt.order_no),
        col(PaymentAttempt.amount_fen),
        col(FuelOrder.paid_by),
        col(Station.code).label("station_code"),
        col(Operator.code).label("operator_code"),
    )
    .select_from(PaymentAttempt)
    .join(FuelOrder, col(FuelOrder.order_no) == col(PaymentAttempt.order_no))
    .join(Station, col(Station.id) == col(FuelOrder.station_id))
    .join(Operator, col(Operator.id) == col(FuelOrder.operator_id))
    .where(col(PaymentAttempt.out_trade_no) == bindparam("out_trade_no"))
)


def attempt_facts(conn: Connection, out_trade_no: str) -> AttemptFacts | None:
    """Return what is known about a channel order number, None when it is not ours."""
    row = conn.execute(_ATTEMPT_FACTS, {"out_trade_no": out_trade_no}).mappings().one_or_none()
    return AttemptFacts(**row) if row else None


class Claim(Enum):
    """Whose an idempotency key is: this command's for the first time, this command's again, or another body's."""

    FIRST = auto()
    AGAIN = auto()
    TAKEN = auto()


def claim_key(
    conn: Connection, *, key_hash: str, kind: str, business_no: str, body_hash: str, now: datetime
) -> Claim:
    """Bind an idempotency key to a body, and say whether it was bound before."""
    values = {
        "source": SOURCE_COMMANDS,
        "external_id": key_hash,
        "kind": kind,
        "business_no": business_no,
        "body": body_hash,
        "received_at": now,
        "handled_at": now,
        "outcome": "claimed",
        "attempts": 0,
    }
    claim = insert(InboxMessage).values(values).on_conflict_do_nothing().returning(col(InboxMessage.body))
    if conn.execute(claim).scalar() is not None:
        return Claim.FIRST
    statement = select(col(InboxMessage.body)).where(
        col(InboxMessage.source) == SOURCE_COMMANDS, col(InboxMessage.external_id) == key_hash
    )
    return Claim.AGAIN if conn.execute(statement).scalar_one() == body_hash else Claim.TAKEN
