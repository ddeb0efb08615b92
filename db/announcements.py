"""Order changes as PostgreSQL announces them (LISTEN order_changed): a hint to look, never the truth itself."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import Engine

from db.session import GIVE_UP

CHANNEL = "order_changed"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """An order has this status and version now; `version` is `version_of` its row's `updated_at`."""

    order_no: str
    status: str
    version: int


def version_of(moment: datetime) -> int:
    """Return a row's `updated_at` as a whole number that clients hand back: microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


async def changed_orders(engine: Engine) -> AsyncIterator[Announcement | None]:
    """Yield each order that changes, over a connection of its own, until that breaks.

    The first value is None: from then on nothing is missed. Raises psycopg.OperationalError when the database is
    away.
    """
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await psycopg.AsyncConnection.connect(make_conninfo(url, **GIVE_UP), autocommit=True)
    async with connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        yield None
        async for announcement in connection.notifies():
            order_no, status, version = announcement.payload.split(" ")
            yield Announcement(order_no=order_no, status=status, version=int(version))
