"""The engine: psycopg 3 behind SQLAlchemy's pool, READ COMMITTED with explicit row locks (ADR 0003)."""

import time
from typing import Any, Final

from sqlalchemy import Engine, event, exc
from sqlmodel import create_engine

_PING_AFTER_IDLE_S = 1.0
GIVE_UP: Final = {
    "connect_timeout": 5,
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}
"""When a connection to a host that fell silent is given up (libpq; seconds, `tcp_user_timeout` milliseconds).

A statement timeout is the server's and helps only while that lives.
"""


def make_engine(database_url: str, *, pool_size: int = 10, application_name: str = "jiazhu") -> Engine:
    """Return an engine for a `postgresql://` URL; `pool_size` is the number of connections kept and the most used.

    Statement and lock timeouts end a stuck statement with an error instead of a stuck worker; activities retry.
    Errors name the statement and never its values, since they reach logs and histories.
    """
    url = database_url
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            url = "postgresql+psycopg://" + url.removeprefix(prefix)
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_use_lifo=True,
        pool_timeout=10,
        hide_parameters=True,
        connect_args={
            "application_name": application_name,
            "options": "-c statement_timeout=15000 -c lock_timeout=5000 -c timezone=UTC",
            **GIVE_UP,
        },
    )
    _ping_the_idle(engine)
    return engine


def _ping_the_idle(engine: Engine) -> None:
    """Ask a connection that nobody used for a while whether it still lives, one round trip, before it is handed out.

    The pool's own `pool_pre_ping` asks each time, which doubles the round trips of short reads. A connection that
    was used a moment ago and lost its server since fails its first statement; callers answer 503 or retry.
    """

    def used(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    def ask(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("idle_since", time.monotonic()) < _PING_AFTER_IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise exc.InvalidatePoolError from error

    event.listen(engine, "checkin", used)
    event.listen(engine, "checkout", ask)
