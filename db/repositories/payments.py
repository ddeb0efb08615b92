"""SQL of payment attempts and refunds. The order is locked first, so these rows need no lock of their own."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, bindparam, select

from activities.records import AttemptRecord, RefundRecord
from db.repositories.columns import table_of
from db.tables.payment import PaymentAttempt, Refund
from domain.payment import AttemptStatus, PayMethod

_attempt, _refund = table_of(PaymentAttempt), table_of(Refund)
_ATTEMPT = select(_attempt).where(_attempt.c.out_trade_no == bindparam("key"))
_ATTEMPTS = select(_attempt).where(_attempt.c.order_no == bindparam("key")).order_by(_attempt.c.number)
_REFUNDS = (
    select(_refund)
    .where(_refund.c.order_no == bindparam("key"))
    .order_by(_refund.c.created_at, _refund.c.out_refund_no)
)
_ATTEMPT_CHANGES = ("status", "client_params", "transaction_id", "payer_fen", "code", "paid_at")
_REFUND_CHANGES = ("status", "refund_id", "code", "finished_at")
_INSERT_ATTEMPT = _attempt.insert()
_SAVE_ATTEMPT = (
    _attempt.update()
    .where(_attempt.c.out_trade_no == bindparam("key"))
    .values({name: bindparam(name) for name in _ATTEMPT_CHANGES})
)

_TABLE, _BODY = "payment_attempt", "request_body"


class PaymentRepository:
    """Attempts and refunds over one connection.

    A request body names the payer (openid or pay code), so the column is encrypted.
    """

    def __init__(
        self,
        connection: Connection,
        encrypt: Callable[[str, str, str], str],
        decrypt: Callable[[str, str, str], str],
    ) -> None:
        self._db, self._encrypt, self._decrypt = connection, encrypt, decrypt

    def _attempt_from(self, row: Mapping[str, Any]) -> AttemptRecord:
        values = dict(row)
        values["method"] = PayMethod(values["method"])
        values["status"] = AttemptStatus(values["status"])
        values[_BODY] = self._decrypt(_TABLE, _BODY, values[_BODY])
        return AttemptRecord(**values)

    def attempt(self, out_trade_no: str) -> AttemptRecord | None:
        """Return an attempt."""
        row = self._db.execute(_ATTEMPT, {"key": out_trade_no}).mappings().first()
        return self._attempt_from(dict(row)) if row else None

    def attempts_of(self, order_no: str) -> list[AttemptRecord]:
        """Return the order's attempts, oldest first."""
        rows = self._db.execute(_ATTEMPTS, {"key": order_no}).mappings()
        return [self._attempt_from(dict(r)) for r in rows]

    def insert_attempt(self, attempt: AttemptRecord) -> None:
        """Insert a new attempt."""
        sealed = self._encrypt(_TABLE, _BODY, attempt.request_body)
        self._db.execute(_INSERT_ATTEMPT, {**asdict(attempt), _BODY: sealed})

    def save_attempt(self, attempt: AttemptRecord) -> None:
        """Write what may change of an attempt."""
        values = {name: getattr(attempt, name) for name in _ATTEMPT_CHANGES}
        self._db.execute(_SAVE_ATTEMPT, {"key": attempt.out_trade_no, **values})

    def refunds_of(self, order_no: str) -> list[RefundRecord]:
        """Return the order's refunds, oldest first."""
        rows = self._db.execute(_REFUNDS, {"key": order_no}).mappings()
        return [RefundRecord(**r) for r in rows]

    def insert_refund(self, refund: RefundRecord) -> None:
        """Insert a new refund."""
        self._db.execute(_refund.insert(), asdict(refund))

    def save_refund(self, refund: RefundRecord) -> None:
        """Write what may change of a refund."""
        values = {name: getattr(refund, name) for name in _REFUND_CHANGES}
        where = _refund.c.out_refund_no == refund.out_refund_no
        self._db.execute(_refund.update().where(where).values(**values))
