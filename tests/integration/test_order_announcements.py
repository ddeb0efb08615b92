"""A changed order is announced at commit, and a waiting screen is woken by it, not by the slow query."""

import asyncio
import time
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine, text

from api.database import Database
from api.watch import OrderWatch, version_of
from db.announcements import changed_orders
from db.seed import seed
from db.session import make_engine

_ORDER = (
    "INSERT INTO fuel_order (order_no, operator_id, station_id, fuelling_point_id, nozzle_id, product_id, mode,"
    " status, unit, price_fen_per_unit, price_version, preset_fen, paid_fen, charge_fen, quantity_milli,"
    " refunded_fen, surplus_fen, shortfall_fen, needs_person, end_reason, body_hash, created_at, updated_at)"
    " SELECT 'PANNOUNCED', s.operator_id, s.id, n.fuelling_point_id, n.id, n.product_id, 'prepaid',"
    " 'awaiting_payment', 'L', 735, 1, 100, 0, 0, 0, 0, 0, 0, '', '', '', :at, :at"
    " FROM station s JOIN nozzle n ON n.station_id = s.id LIMIT 1"
)


def _change(engine: Engine, at: datetime) -> None:
    with engine.begin() as db:
        db.execute(text("UPDATE fuel_order SET updated_at = :at WHERE order_no = 'PANNOUNCED'"), {"at": at})


async def test_a_waiting_screen_is_woken_by_the_announcement(fresh_database_url: str) -> None:
    engine = make_engine(fresh_database_url, pool_size=4)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    seed(engine, begun)
    with engine.begin() as db:
        db.execute(text(_ORDER), {"at": begun})
    database = Database(engine, threads=3)
    watch = OrderWatch(database, interval_s=30, announced=partial(changed_orders, engine))
    try:
        waiting = asyncio.create_task(watch.wait("PANNOUNCED", version_of(begun), 20))
        for second in range(1, 100):
            await asyncio.sleep(0.1)
            _change(engine, datetime(2026, 1, 1, 0, 0, second % 60, tzinfo=UTC))
            if waiting.done():
                break
        moment = time.monotonic()
        await asyncio.wait_for(waiting, 5)
        assert time.monotonic() - moment < 5
        stale = version_of(datetime(2025, 1, 1, tzinfo=UTC))
        await asyncio.wait_for(watch.wait("PANNOUNCED", stale, 20), 5)
    finally:
        await watch.close()
        engine.dispose()
