"""What the station truly dispensed, kept on disk: the oracle that a gateway's ledger is compared with.

It also holds what a real dispenser keeps without power: totalisers, the buffer of unpaid transactions, the
next sequence number and the prices. SQLite with `synchronous=FULL`, so a committed sale survives `kill -9`
and a power cut. A fill that was flowing when the process was killed has never passed the meter: neither
sale nor totaliser knows it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sandbox.station.data_ids import TrState

SEQUENCE_MAX = 9999
HISTORY = 15

SCHEMA = """
CREATE TABLE IF NOT EXISTS sale (
  id INTEGER PRIMARY KEY AUTOINCREMENT, node INTEGER NOT NULL, fp INTEGER NOT NULL, nozzle INTEGER NOT NULL,
  seq INTEGER NOT NULL, product INTEGER NOT NULL, unit TEXT NOT NULL, amount_fen INTEGER NOT NULL,
  reported_amount_fen INTEGER NOT NULL, centi INTEGER NOT NULL, price_fen INTEGER NOT NULL,
  centi_before INTEGER NOT NULL, centi_after INTEGER NOT NULL, amount_before INTEGER NOT NULL,
  amount_after INTEGER NOT NULL, controller BLOB NOT NULL, token BLOB NOT NULL, error INTEGER NOT NULL,
  ended_at TEXT NOT NULL, state INTEGER NOT NULL, buffer_controller BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS sale_point ON sale (node, fp, id);
CREATE TABLE IF NOT EXISTS totaliser (
  node INTEGER, fp INTEGER, nozzle INTEGER, centi INTEGER NOT NULL, amount_fen INTEGER NOT NULL, sales
  INTEGER NOT NULL,
  PRIMARY KEY (node, fp, nozzle));
CREATE TABLE IF NOT EXISTS price (
  node INTEGER, fp INTEGER, nozzle INTEGER, price_fen INTEGER NOT NULL, PRIMARY KEY (node, fp, nozzle));
CREATE TABLE IF NOT EXISTS sequence (node INTEGER, fp INTEGER, next INTEGER NOT NULL, PRIMARY KEY (node, fp));
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Non-resettable counters of one nozzle: hundredths of the unit, fen, number of sales."""

    centi: int = 0
    amount_fen: int = 0
    sales: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """What a meter hands to the ledger when the nozzle is back."""

    node: int
    fp: int
    nozzle: int
    product: int
    unit: str
    amount_fen: int
    reported_amount_fen: int
    centi: int
    price_fen: int
    controller: bytes
    token: bytes
    error: int
    ended_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """One dispensed sale. `reported_amount_fen` differs from `amount_fen` only by a scripted fault."""

    id: int
    node: int
    fp: int
    nozzle: int
    seq: int
    product: int
    unit: str
    amount_fen: int
    reported_amount_fen: int
    centi: int
    price_fen: int
    centi_before: int
    centi_after: int
    amount_before: int
    amount_after: int
    controller: bytes
    token: bytes
    error: int
    ended_at: str
    state: int = TrState.PAYABLE
    buffer_controller: bytes = b"\x00\x00"


COLUMNS = tuple(Sale.__dataclass_fields__)
INSERT = f"INSERT INTO sale ({', '.join(COLUMNS[1:])}) VALUES ({', '.join('?' * (len(COLUMNS) - 1))})"
SELECT = f"SELECT {', '.join(COLUMNS)} FROM sale"


class Ledger:
    """The station's durable memory; one connection, used by one thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def totals(self, node: int, fp: int, nozzle: int) -> Totals:
        """Counters of one nozzle."""
        query = "SELECT centi, amount_fen, sales FROM totaliser WHERE node = ? AND fp = ? AND nozzle = ?"
        row = self._db.execute(query, (node, fp, nozzle)).fetchone()
        return Totals(centi=row[0], amount_fen=row[1], sales=row[2]) if row else Totals()

    def next_sequence(self, node: int, fp: int) -> int:
        """The number that the next transaction of the point gets, 1..9999."""
        row = self._db.execute("SELECT next FROM sequence WHERE node = ? AND fp = ?", (node, fp)).fetchone()
        return int(row[0]) if row else 1

    def set_sequence(self, node: int, fp: int, value: int) -> None:
        """Put the counter somewhere else (to test the wrap). Raises ValueError outside 1..9999."""
        if not 1 <= value <= SEQUENCE_MAX:
            raise ValueError("a sequence number is 1..9999")
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO sequence VALUES (?, ?, ?)", (node, fp, value))

    def price(self, node: int, fp: int, nozzle: int, default: int) -> int:
        """Price of a nozzle in fen per unit."""
        query = "SELECT price_fen FROM price WHERE node = ? AND fp = ? AND nozzle = ?"
        row = self._db.execute(query, (node, fp, nozzle)).fetchone()
        return int(row[0]) if row else default

    def set_price(self, node: int, fp: int, nozzle: int, price_fen: int) -> None:
        """Keep a new price."""
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO price VALUES (?, ?, ?, ?)", (node, fp, nozzle, price_fen)
            )

    def record(self, fill: Fill) -> Sale:
        """Sale, totaliser and sequence number in one commit."""
        seq = self.next_sequence(fill.node, fill.fp)
        before = self.totals(fill.node, fill.fp, fill.nozzle)
        after = Totals(
            centi=before.centi + fill.centi,
            amount_fen=before.amount_fen + fill.amount_fen,
            sales=before.sales + 1,
        )
        sale = Sale(
            id=0,
            seq=seq,
            centi_before=before.centi,
            centi_after=after.centi,
            amount_before=before.amount_fen,
            amount_after=after.amount_fen,
            **asdict(fill),
        )
        point = (fill.node, fill.fp)
        with self._db:
            values = tuple(getattr(sale, name) for name in COLUMNS[1:])
            row_id = self._db.execute(INSERT, values).lastrowid
            self._db.execute(
                "INSERT OR REPLACE INTO totaliser VALUES (?, ?, ?, ?, ?, ?)",
                (*point, fill.nozzle, after.centi, after.amount_fen, after.sales),
            )
            self._db.execute(
                "INSERT OR REPLACE INTO sequence VALUES (?, ?, ?)", (*point, seq % SEQUENCE_MAX + 1)
            )
        return replace(sale, id=row_id or 0)

    def set_state(self, sale: Sale, state: TrState, buffer_controller: bytes) -> Sale:
        """Move a transaction between payable, locked and cleared."""
        with self._db:
            self._db.execute(
                "UPDATE sale SET state = ?, buffer_controller = ? WHERE id = ?",
                (state, buffer_controller, sale.id),
            )
        return replace(sale, state=state, buffer_controller=buffer_controller)

    def recent(self, node: int, fp: int) -> list[Sale]:
        """Everything not cleared and the last fifteen transactions of a point, oldest first."""
        query = (
            f"{SELECT} WHERE node = :node AND fp = :fp AND (state <> 1 OR id IN (SELECT id FROM sale"
            " WHERE node = :node AND fp = :fp ORDER BY id DESC LIMIT :history)) ORDER BY id"
        )
        rows = self._db.execute(query, {"node": node, "fp": fp, "history": HISTORY})
        return [_sale(row) for row in rows]

    def sales(self, *, after_id: int = 0, limit: int = 10_000) -> list[Sale]:
        """Sales in the order in which they were dispensed."""
        return [
            _sale(row)
            for row in self._db.execute(f"{SELECT} WHERE id > ? ORDER BY id LIMIT ?", (after_id, limit))
        ]


def _sale(row: tuple[object, ...]) -> Sale:
    values: dict[str, object] = dict(zip(COLUMNS, row, strict=True))
    return Sale(**values)  # type: ignore[arg-type]
