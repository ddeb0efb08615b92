"""A database that was restarted: connections that lay idle are asked before use, and one that died is replaced."""

import pytest
from sqlalchemy import text

from db import session
from db.session import make_engine


def test_a_connection_that_died_while_idle_is_replaced(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_PING_AFTER_IDLE_S", 0.0)
    engine, other = make_engine(database_url, pool_size=1), make_engine(database_url, pool_size=1)
    try:
        with engine.connect() as connection:
            first = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with other.begin() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": first})
        with engine.connect() as connection:
            assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != first
    finally:
        engine.dispose()
        other.dispose()


def test_a_connection_in_steady_use_is_not_asked(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(database_url, pool_size=1)
    asked: list[object] = []

    def ping(connection: object) -> bool:
        asked.append(connection)
        return True

    monkeypatch.setattr(engine.dialect, "do_ping", ping)
    try:
        for _ in range(3):
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        assert asked == []
    finally:
        engine.dispose()
