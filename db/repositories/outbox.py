"""SQL of the outbox relay: claim due messages so that several relays never send the same one at the same time."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, select

from db.repositories.columns import table_of
from db.tables.identity import Driver
from db.tables.inbox import OutboxMessage

_outbox, _driver = table_of(OutboxMessage), table_of(Driver)
_LEASE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueMessage:
    """A message to send; `openid_cipher` is the receiver's encrypted openid."""

    id: int
    key: str
    kind: str
    order_no: str
    body: str
    attempts: int
    openid_cipher: str | None


class OutboxRelayStore:
    """Claims and finishes outbox rows, one short transaction each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(self, now: datetime, limit: int) -> list[DueMessage]:
        """Return due messages, leased for a minute: a relay that dies leaves them to the next one."""
        due = (
            select(_outbox.c.id)
            .where(_outbox.c.sent_at.is_(None), _outbox.c.due_at <= now)
            .order_by(_outbox.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._engine.begin() as db:
            ids = list(db.execute(due).scalars())
            if not ids:
                return []
            db.execute(
                _outbox.update()
                .where(_outbox.c.id.in_(ids))
                .values(due_at=now + _LEASE, attempts=_outbox.c.attempts + 1)
            )
            rows = db.execute(
                select(
                    _outbox.c.id,
                    _outbox.c.key,
                    _outbox.c.kind,
                    _outbox.c.order_no,
                    _outbox.c.body,
                    _outbox.c.attempts,
                    _driver.c.openid_cipher,
                )
                .outerjoin(_driver, _driver.c.id == _outbox.c.driver_id)
                .where(_outbox.c.id.in_(ids))
                .order_by(_outbox.c.id)
            ).mappings()
            return [DueMessage(**row) for row in rows]

    def finish(self, message_id: int, now: datetime, outcome: str) -> None:
        """Keep that a message is done: sent, or refused for good."""
        self._set(message_id, {"sent_at": now, "outcome": outcome[:128]})

    def postpone(self, message_id: int, until: datetime, outcome: str) -> None:
        """Keep that a message is to be tried again later."""
        self._set(message_id, {"due_at": until, "outcome": outcome[:128]})

    def _set(self, message_id: int, values: dict[str, object]) -> None:
        with self._engine.begin() as db:
            db.execute(_outbox.update().where(_outbox.c.id == message_id).values(**values))
