"""SQL of the outbox relay: claim due messages so that several relays never send the same one at the same time."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, bindparam, select

from db.repositories.columns import table_of
from db.tables.identity import Driver
from db.tables.inbox import OutboxMessage

_outbox, _driver = table_of(OutboxMessage), table_of(Driver)
_LEASE = timedelta(minutes=1)
_OF_ONE = _outbox.update().where(_outbox.c.id == bindparam("i"))
_FINISH = _OF_ONE.values(sent_at=bindparam("at"), outcome=bindparam("o"))
_POSTPONE = _OF_ONE.values(due_at=bindparam("at"), outcome=bindparam("o"))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How sending a message ended; with `again_at` it is tried again then."""

    message_id: int
    outcome: str
    again_at: datetime | None = None


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

    def finish(self, outcomes: list[Outcome], now: datetime) -> None:
        """Keep how a batch ended, in one transaction: sent or refused for good, or to be tried again later.

        A relay that dies before this sends the batch again: at least once is the promise.
        """
        if not outcomes:
            return
        final = [one for one in outcomes if one.again_at is None]
        again = [one for one in outcomes if one.again_at is not None]
        with self._engine.begin() as db:
            for statement, ended in ((_FINISH, final), (_POSTPONE, again)):
                rows = [
                    {"i": one.message_id, "o": one.outcome[:128], "at": one.again_at or now} for one in ended
                ]
                if rows:
                    db.execute(statement, rows)
