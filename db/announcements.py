"""Order changes as PostgreSQL announces them (LISTEN order_changed): a hint to look, never the truth itself."""

from collections.abc import AsyncIterator

import psycopg
from sqlalchemy import Engine

CHANNEL = "order_changed"


async def changed_orders(engine: Engine) -> AsyncIterator[str]:
    """Yield the number of each order that changes, over a connection of its own, until that breaks.

    The first value is an empty text: from then on nothing is missed. Raises psycopg.OperationalError when the
    database is away.
    """
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        yield ""
        async for announcement in connection.notifies():
            yield announcement.payload
