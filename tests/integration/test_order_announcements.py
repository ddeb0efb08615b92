"""A changed order is announced at commit, and a waiting screen is woken by it, not by the slow query."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import pytest
from sqlalchemy import Engine, text

from api.database import Database
from api.watch import OrderWatch
from db.announcements import changed_orders, version_of
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


def _change(engine: Engine, second: int, status: str) -> None:
    values = {"at": datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), "status": status}
    with engine.begin() as db:
        db.execute(
            text("UPDATE fuel_order SET updated_at = :at, status = :status WHERE order_no = 'PANNOUNCED'"),
            values,
        )


@dataclass
class _Watched:
    """An order in the database, and a watch that would look by itself only after this test."""

    engine: Engine
    watch: OrderWatch


@pytest.fixture
async def watched(fresh_database_url: str) -> AsyncIterator[_Watched]:
    engine = make_engine(fresh_database_url, pool_size=4)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    seed(engine, begun)
    with engine.begin() as db:
        db.execute(text(_ORDER), {"at": begun})
    watch = OrderWatch(Database(engine, threads=3), interval_s=30, announced=partial(changed_orders, engine))
    yield _Watched(engine=engine, watch=watch)
    await watch.close()
    engine.dispose()


async def _heard(watched: _Watched) -> None:
    """Change the order until an announcement arrives: from then on the watch listens."""
    with watched.watch.waiting("PANNOUNCED", lambda _status, _version: True) as waiter:
        for second in range(1, 50):
            _change(watched.engine, second, "awaiting_payment")
            await waiter.wait(0.2)
            if waiter.done.done():
                return
    raise AssertionError("no announcement was heard")


async def test_a_waiting_screen_is_woken_by_the_announcement(watched: _Watched) -> None:
    await _heard(watched)
    seen = version_of(datetime(2026, 1, 1, 0, 0, 50, tzinfo=UTC))
    with watched.watch.waiting("PANNOUNCED", lambda _status, version: version != seen) as waiter:
        _change(watched.engine, 50, "awaiting_payment")
        await waiter.wait(0.5)
        assert not waiter.done.done(), "the version that the screen has is no news"
        _change(watched.engine, 51, "awaiting_payment")
        await waiter.wait(10)
        assert waiter.done.done()


async def test_who_waits_for_a_status_sleeps_through_the_others(watched: _Watched) -> None:
    await _heard(watched)
    with watched.watch.waiting("PANNOUNCED", lambda status, _version: status == "authorised") as waiter:
        _change(watched.engine, 52, "paid")
        await waiter.wait(0.5)
        assert not waiter.done.done()
        _change(watched.engine, 53, "authorised")
        await waiter.wait(10)
        assert waiter.done.done()


async def test_without_announcements_the_watch_looks_by_itself(fresh_database_url: str) -> None:
    engine = make_engine(fresh_database_url, pool_size=2)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    seed(engine, begun)
    with engine.begin() as db:
        db.execute(text(_ORDER), {"at": begun})
    watch = OrderWatch(Database(engine, threads=2), interval_s=0.05)
    try:
        with watch.waiting("PANNOUNCED", lambda status, _version: status == "paid") as waiter:
            _change(engine, 1, "paid")
            await waiter.wait(10)
            assert waiter.done.done()
    finally:
        await watch.close()
        engine.dispose()
