"""The engine: psycopg 3 behind SQLAlchemy's pool, READ COMMITTED with explicit row locks (ADR 0003)."""

from sqlalchemy import Engine
from sqlmodel import create_engine


def make_engine(
    database_url: str, *, pool_size: int = 10, application_name: str = "jiazhu", ping: bool = True
) -> Engine:
    """Return an engine for a `postgresql://` URL; `pool_size` is the number of connections kept and the most used.

    `ping` asks each connection before it is used, one round trip; without it the first statement after a database
    restart fails and the pool starts anew, which is right where every transaction is retried anyway (activities).
    Statement and lock timeouts end a stuck statement with an error instead of a stuck worker; activities retry.
    """
    url = database_url
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            url = "postgresql+psycopg://" + url.removeprefix(prefix)
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=ping,
        pool_timeout=10,
        connect_args={
            "application_name": application_name,
            "options": "-c statement_timeout=15000 -c lock_timeout=5000 -c timezone=UTC",
        },
    )
