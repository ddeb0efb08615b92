"""SQLite behind the world: what was acknowledged survives the death of the process.

WAL with synchronous=NORMAL: a commit is a write() into the operating system, no fsync. A killed process
loses nothing;
a power cut may lose the last commits, which is fine for a simulator.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.wechat.text import dump


class Store:
    """Objects by (kind, id) as JSON, and an append-only journal."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS object (kind TEXT, id TEXT, data TEXT NOT NULL, "
            "PRIMARY KEY (kind, id)) WITHOUT ROWID"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS journal (seq INTEGER PRIMARY KEY, data TEXT NOT NULL)")

    def objects(self, kind: str) -> Iterator[dict[str, Any]]:
        """Every object of a kind."""
        for (data,) in self._db.execute("SELECT data FROM object WHERE kind = ?", (kind,)):
            yield json.loads(data)

    def journal(self, since: int, limit: int) -> list[dict[str, Any]]:
        """Journal events with `seq` > since, oldest first."""
        rows = self._db.execute("SELECT data FROM journal WHERE seq > ? ORDER BY seq LIMIT ?", (since, limit))
        return [json.loads(data) for (data,) in rows]

    def last_seq(self) -> int:
        """Number of the newest journal event, 0 for none."""
        (seq,) = self._db.execute("SELECT COALESCE(MAX(seq), 0) FROM journal").fetchone()
        return int(seq)

    def write(
        self, changed: dict[tuple[str, str], dict[str, Any] | None], events: list[dict[str, Any]]
    ) -> None:
        """Commit changed objects (None deletes) and new journal events in one transaction."""
        gone = [key for key, data in changed.items() if data is None]
        kept = [(*key, dump(data)) for key, data in changed.items() if data is not None]
        lines = [(event["seq"], dump(event)) for event in events]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if kept:
                self._db.executemany("INSERT OR REPLACE INTO object VALUES (?, ?, ?)", kept)
            if gone:
                self._db.executemany("DELETE FROM object WHERE kind = ? AND id = ?", gone)
            if lines:
                self._db.executemany("INSERT INTO journal VALUES (?, ?)", lines)
        except sqlite3.Error:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def clear(self) -> None:
        """Forget everything."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM object")
        self._db.execute("DELETE FROM journal")
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Release the file."""
        self._db.close()
