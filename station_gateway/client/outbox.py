"""What the station must not forget: finished sales, what is not cleared yet, authorisations, results, totalisers.

SQLite in WAL mode. Money is written with `synchronous=FULL`: when a call returns, the row survives a power
cut, and only then is a dispenser's transaction cleared. Acknowledgements go through a second connection with
`synchronous=NORMAL`: losing one only sends a sale twice, which the server expects.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.station import CommandResult, CommandState, EndReason, SaleRecord
from station_gateway.client.meters import ROUNDING_MILLI, Meter, first_meter
from station_gateway.protocols.uplink.bodies import loads, parse_result, result_body, sale_body

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, natural_key TEXT NOT NULL UNIQUE, lane INTEGER NOT NULL,
    device TEXT NOT NULL, body TEXT NOT NULL, created_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, acked_ms INTEGER) STRICT;
CREATE INDEX IF NOT EXISTS event_open ON event (seq) WHERE acked_ms IS NULL;
CREATE INDEX IF NOT EXISTS event_rebuilt ON event (seq) WHERE json_extract(body, '$.e') = 'synthesised';
CREATE INDEX IF NOT EXISTS event_order ON event (json_extract(body, '$.o'));
CREATE TABLE IF NOT EXISTS uncleared (
    node INTEGER NOT NULL, fp INTEGER NOT NULL, sequence INTEGER NOT NULL, content TEXT NOT NULL,
    PRIMARY KEY (node, fp, sequence)) STRICT;
CREATE TABLE IF NOT EXISTS authorisation (
    node INTEGER NOT NULL, fp INTEGER NOT NULL, nozzle INTEGER NOT NULL, order_no TEXT NOT NULL,
    command_id TEXT NOT NULL, price_fen INTEGER NOT NULL, total_before INTEGER,
    confirmed INTEGER NOT NULL DEFAULT 0, opened_ms INTEGER NOT NULL, PRIMARY KEY (node, fp)) STRICT;
CREATE TABLE IF NOT EXISTS result (
    command_id TEXT PRIMARY KEY, body TEXT NOT NULL, created_ms INTEGER NOT NULL, reported_ms INTEGER) STRICT;
CREATE INDEX IF NOT EXISTS result_open ON result (created_ms) WHERE reported_ms IS NULL;
CREATE TABLE IF NOT EXISTS nozzle_meter (
    node INTEGER NOT NULL, fp INTEGER NOT NULL, nozzle INTEGER NOT NULL, due_milli INTEGER NOT NULL,
    noted_milli INTEGER NOT NULL, read_milli INTEGER NOT NULL, noted_ms INTEGER NOT NULL,
    PRIMARY KEY (node, fp, nozzle)) STRICT;
"""
MONEY_LANE = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAuthorisation:
    """A release that we asked a dispenser for; `confirmed` once the dispenser said yes."""

    node: int
    fp: int
    nozzle: int
    order_no: str
    command_id: str
    price_fen_per_unit: int
    total_before_milli: int | None
    confirmed: bool
    opened_ms: int

    @property
    def accepted(self) -> CommandResult:
        """The answer to its command once the dispenser is released."""
        return CommandResult(command_id=self.command_id, order_no=self.order_no, state=CommandState.ACCEPTED)


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event that the server has not acknowledged yet."""

    seq: int
    device: str
    body: str


class Outbox:
    """One open database; used by one thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._durable = _connect(path, "FULL")
        self._durable.executescript(_SCHEMA)
        self._relaxed = _connect(path, "NORMAL")

    def close(self) -> None:
        """Close both connections."""
        self._durable.close()
        self._relaxed.close()

    # -- sales -------------------------------------------------------------------------------------

    def add_sale(
        self,
        sale: SaleRecord,
        *,
        now_ms: int,
        closes: OpenAuthorisation | None = None,
        result: CommandResult | None = None,
        content: str | None = None,
        is_rebuilt: bool = False,
        in_record: bool = False,
    ) -> bool:
        """Store a sale, end its authorisation, tell the nozzle's meter; return False for a sale known before.

        A sale known before changes nothing: the authorisation that is open now waits for a sale of its own.
        `content` is the transaction that the sale was read from, remembered until the device has cleared it.
        `result` is stored too when the authorisation was never confirmed: the sale is the answer. `is_rebuilt`: its fuel
        was told before, by the record that ended its order. `in_record`: the device told the totaliser with the sale.
        """
        with _transaction(self._durable) as db:
            if content is not None:
                db.execute(
                    "INSERT OR REPLACE INTO uncleared VALUES (?, ?, ?, ?)",
                    (sale.node, sale.fp, sale.sequence, content),
                )
            new = db.execute(
                "INSERT INTO event (natural_key, lane, device, body, created_ms) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (natural_key) DO NOTHING",
                (sale.natural_key, MONEY_LANE, f"{sale.node}", sale_body(sale), now_ms),
            )
            if new.rowcount != 1:
                return False
            if closes is not None:
                db.execute("DELETE FROM authorisation WHERE command_id = ?", (closes.command_id,))
            if not is_rebuilt:
                _tell_meter(db, sale, is_orders=closes is not None, in_record=in_record)
            if result is not None:
                _store_result(db, result, now_ms)
            return True

    def pending(self, limit: int, busy: Collection[str] = ()) -> list[PendingEvent]:
        """Return unacknowledged events in order, leaving out devices that have one on its way."""
        marks = ",".join("?" * len(busy))
        rows = self._relaxed.execute(
            f"SELECT seq, device, body FROM event WHERE acked_ms IS NULL AND device NOT IN ({marks})"  # noqa: S608
            " ORDER BY seq LIMIT ?",
            (*busy, limit),
        )
        return [PendingEvent(*row) for row in rows]

    def acknowledge(self, seqs: Iterable[int], now_ms: int) -> None:
        """Mark events as stored by the server; they stay for replay and audit until `prune`."""
        with _transaction(self._relaxed) as db:
            db.executemany("UPDATE event SET acked_ms = ? WHERE seq = ?", [(now_ms, seq) for seq in seqs])

    def count_attempt(self, seqs: Iterable[int]) -> None:
        """Count a failed attempt."""
        with _transaction(self._relaxed) as db:
            db.executemany("UPDATE event SET attempts = attempts + 1 WHERE seq = ?", [(seq,) for seq in seqs])

    def depth(self) -> int:
        """Return how many events wait for the server."""
        row = self._relaxed.execute("SELECT count(*) FROM event WHERE acked_ms IS NULL").fetchone()
        return int(row[0])

    def knows_sale(self, natural_key: str) -> bool:
        """Return whether a sale is stored already."""
        row = self._durable.execute("SELECT 1 FROM event WHERE natural_key = ?", (natural_key,)).fetchone()
        return row is not None

    def rebuilt_order(self, sale: SaleRecord, *, in_record: bool) -> str | None:
        """Return the order whose rebuilt sale has this fuel: the totaliser after it lies in that one's range.

        A totaliser that is not `in_record` may have been read too early: then the quantities are
        equal too. An order whose own transaction came has no second one, and one without fuel tells of none.
        The letters are the keys of a sale's body (`protocols/uplink/bodies.py`).
        """
        if not sale.quantity_milli:
            return None
        row = self._durable.execute(
            "SELECT json_extract(body, '$.o') FROM event WHERE json_extract(body, '$.e') = 'synthesised'"
            " AND json_extract(body, '$.n') = ? AND json_extract(body, '$.f') = ?"
            " AND json_extract(body, '$.z') = ?"
            " AND json_extract(body, '$.y') < ? AND json_extract(body, '$.x') + ? >= ?"
            " AND (? OR abs(json_extract(body, '$.m') - ?) <= ?)"
            " AND NOT EXISTS (SELECT 1 FROM event own WHERE json_extract(own.body, '$.o') = json_extract(event.body, '$.o')"
            " AND json_extract(own.body, '$.q') > 0 AND json_extract(own.body, '$.m') > 0) ORDER BY seq DESC",
            (
                sale.node,
                sale.fp,
                sale.nozzle,
                sale.totaliser_after_milli,
                ROUNDING_MILLI,
                sale.totaliser_after_milli,
                in_record,
                sale.quantity_milli,
                ROUNDING_MILLI,
            ),
        ).fetchone()
        return None if row is None else str(row[0])

    def has_fuel_of(self, order_no: str) -> bool:
        """Return whether a sale with fuel, or one that cannot exclude fuel, is stored for an order."""
        row = self._durable.execute(
            "SELECT 1 FROM event WHERE json_extract(body, '$.o') = ?"
            " AND (json_extract(body, '$.m') > 0 OR json_extract(body, '$.e') = ?)",
            (order_no, EndReason.SYNTHESISED.value),
        ).fetchone()
        return row is not None

    def prune(self, before_ms: int) -> None:
        """Forget what was acknowledged before a moment."""
        with _transaction(self._relaxed) as db:
            db.execute("DELETE FROM event WHERE acked_ms < ?", (before_ms,))
            db.execute("DELETE FROM result WHERE reported_ms < ?", (before_ms,))

    # -- transactions that a device still keeps ----------------------------------------------------

    def uncleared(self, node: int, fp: int, sequence: int) -> str | None:
        """Return the content of a transaction that is stored and waits for the device to clear it, else None."""
        row = self._durable.execute(
            "SELECT content FROM uncleared WHERE node = ? AND fp = ? AND sequence = ?", (node, fp, sequence)
        ).fetchone()
        return None if row is None else str(row[0])

    def cleared(self, node: int, fp: int, sequence: int) -> None:
        """The device has cleared a transaction: the next one like it is another sale.

        Losing this at a power cut is harmless: the next connection does not find the transaction at the device.
        """
        with _transaction(self._relaxed) as db:
            db.execute(
                "DELETE FROM uncleared WHERE node = ? AND fp = ? AND sequence = ?", (node, fp, sequence)
            )

    def uncleared_of(self, node: int, fp: int) -> list[int]:
        """Return the transactions of a point that were stored and, as far as we know, are not cleared."""
        rows = self._durable.execute("SELECT sequence FROM uncleared WHERE node = ? AND fp = ?", (node, fp))
        return [int(row[0]) for row in rows]

    # -- authorisations ----------------------------------------------------------------------------

    def open_authorisation(self, one: OpenAuthorisation) -> None:
        """Store an intent before the dispenser hears of it. Raises sqlite3.IntegrityError on a second one."""
        with _transaction(self._durable) as db:
            db.execute(
                "INSERT INTO authorisation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    one.node,
                    one.fp,
                    one.nozzle,
                    one.order_no,
                    one.command_id,
                    one.price_fen_per_unit,
                    one.total_before_milli,
                    int(one.confirmed),
                    one.opened_ms,
                ),
            )

    def confirm_authorisation(self, result: CommandResult, now_ms: int) -> None:
        """The dispenser said yes: keep the authorisation, store the result."""
        with _transaction(self._durable) as db:
            db.execute("UPDATE authorisation SET confirmed = 1 WHERE command_id = ?", (result.command_id,))
            _store_result(db, result, now_ms)

    def drop_authorisation(self, result: CommandResult, now_ms: int) -> None:
        """The dispenser said no: forget the authorisation, store the result."""
        with _transaction(self._durable) as db:
            db.execute("DELETE FROM authorisation WHERE command_id = ?", (result.command_id,))
            _store_result(db, result, now_ms)

    def is_open(self, command_id: str) -> bool:
        """Return whether an authorisation of this command is open, confirmed or not."""
        row = self._durable.execute(
            "SELECT 1 FROM authorisation WHERE command_id = ?", (command_id,)
        ).fetchone()
        return row is not None

    def authorisations(self) -> list[OpenAuthorisation]:
        """Return what was open when the client last ran."""
        rows = self._durable.execute("SELECT * FROM authorisation").fetchall()
        return [
            OpenAuthorisation(
                node=row[0],
                fp=row[1],
                nozzle=row[2],
                order_no=row[3],
                command_id=row[4],
                price_fen_per_unit=row[5],
                total_before_milli=row[6],
                confirmed=bool(row[7]),
                opened_ms=row[8],
            )
            for row in rows
        ]

    # -- command results ---------------------------------------------------------------------------

    def add_result(self, result: CommandResult, now_ms: int) -> None:
        """Store a result before it is sent; a final one replaces UNKNOWN and is reported again."""
        with _transaction(self._durable) as db:
            _store_result(db, result, now_ms)

    def result_of(self, command_id: str) -> CommandResult | None:
        """Return the stored result of a command."""
        row = self._durable.execute("SELECT body FROM result WHERE command_id = ?", (command_id,)).fetchone()
        return None if row is None else parse_result(loads(row[0].encode()))

    def unreported(self, limit: int) -> list[tuple[str, str]]:
        """Return (command_id, body) of results that the server has not acknowledged."""
        rows = self._relaxed.execute(
            "SELECT command_id, body FROM result WHERE reported_ms IS NULL ORDER BY created_ms LIMIT ?",
            (limit,),
        )
        return [(row[0], row[1]) for row in rows]

    def mark_reported(self, sent: Iterable[tuple[str, str]], now_ms: int) -> None:
        """Mark results as received, unless a newer one took their place meanwhile."""
        with _transaction(self._relaxed) as db:
            db.executemany(
                "UPDATE result SET reported_ms = ? WHERE command_id = ? AND body = ?",
                [(now_ms, command_id, body) for command_id, body in sent],
            )

    def report_again(self, command_id: str) -> None:
        """The server asked again: send the stored result once more."""
        with _transaction(self._relaxed) as db:
            db.execute("UPDATE result SET reported_ms = NULL WHERE command_id = ?", (command_id,))

    # -- meters ------------------------------------------------------------------------------------

    def meter(self, node: int, fp: int, nozzle: int) -> Meter | None:
        """Return what is known of a nozzle's totaliser, None when it has never been read."""
        return _meter(self._durable, node, fp, nozzle)

    def set_meter(self, node: int, fp: int, nozzle: int, meter: Meter) -> None:
        """Remember what a reading of the totaliser says. Losing this at a power cut is harmless: it is read again."""
        with _transaction(self._relaxed) as db:
            _store_meter(db, node, fp, nozzle, meter)


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    return db


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _store_result(db: sqlite3.Connection, result: CommandResult, now_ms: int) -> None:
    db.execute(
        "INSERT INTO result (command_id, body, created_ms) VALUES (?, ?, ?)"
        " ON CONFLICT (command_id) DO UPDATE SET body = excluded.body, reported_ms = NULL",
        (result.command_id, result_body(result), now_ms),
    )


def _tell_meter(db: sqlite3.Connection, sale: SaleRecord, *, is_orders: bool, in_record: bool) -> None:
    known = _meter(db, sale.node, sale.fp, sale.nozzle)
    after = known and known.after(sale, is_orders=is_orders, in_record=in_record)
    meter = after or first_meter(sale)
    if meter is not None:
        _store_meter(db, sale.node, sale.fp, sale.nozzle, meter)


def _meter(db: sqlite3.Connection, node: int, fp: int, nozzle: int) -> Meter | None:
    row = db.execute(
        "SELECT due_milli, noted_milli, read_milli, noted_ms FROM nozzle_meter WHERE node = ? AND fp = ? AND nozzle = ?",
        (node, fp, nozzle),
    ).fetchone()
    return None if row is None else Meter(*row)


def _store_meter(db: sqlite3.Connection, node: int, fp: int, nozzle: int, meter: Meter) -> None:
    db.execute(
        "INSERT OR REPLACE INTO nozzle_meter VALUES (?, ?, ?, ?, ?, ?, ?)",
        (node, fp, nozzle, meter.due_milli, meter.noted_milli, meter.read_milli, meter.noted_ms),
    )
