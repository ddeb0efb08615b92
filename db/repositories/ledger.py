"""SQL of the double-entry ledger: only inserts; the same key and the same entries post once."""

import json
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from activities.ports import LedgerConflictError
from db.repositories.columns import table_of
from db.tables.ledger import LedgerEntry, LedgerJournal
from domain.ids import body_hash
from domain.ledger import Journal

_journal, _entry = table_of(LedgerJournal), table_of(LedgerEntry)

_INSERT_JOURNAL = insert(_journal).on_conflict_do_nothing(index_elements=["key"]).returning(_journal.c.id)
_INSERT_ENTRIES = _entry.insert()


def journal_hash(journal: Journal) -> str:
    """Return the hash that binds a journal's key to its entries."""
    lines = [[e.account, e.side, e.amount_fen] for e in journal.entries]
    return body_hash(json.dumps([journal.key, lines]).encode())


class LedgerRepository:
    """The ledger over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def post(self, order_no: str, journal: Journal, at: datetime) -> bool:
        """Post a journal; False when the same one is already there.

        Raises LedgerConflictError when the key exists with other entries.
        """
        digest = journal_hash(journal)
        new_id = self._db.execute(
            _INSERT_JOURNAL,
            {
                "key": journal.key,
                "body_hash": digest,
                "order_no": order_no,
                "memo": journal.memo,
                "posted_at": at,
            },
        ).scalar()
        if new_id is None:
            known = self._db.execute(
                select(_journal.c.body_hash).where(_journal.c.key == journal.key)
            ).scalar()
            if known != digest:
                raise LedgerConflictError(f"journal {journal.key} exists with other entries")
            return False
        self._db.execute(
            _INSERT_ENTRIES,
            [
                {"journal_id": new_id, "account": e.account, "side": e.side, "amount_fen": e.amount_fen}
                for e in journal.entries
            ],
        )
        return True
