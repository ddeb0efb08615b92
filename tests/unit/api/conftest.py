"""One world a test module; every test makes its own people and orders in it."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from db.session import make_engine
from tests.unit.api.world import World


@pytest.fixture(scope="module")
def shared_world(database_url: str) -> Iterator[World]:
    """The world of this module, over a database of its own."""
    engine = make_engine(database_url, pool_size=6)
    world = World(engine)
    yield world
    world.app.state.services.db.close()


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The module's world, its neighbours well-behaved again after each test."""
    yield shared_world
    shared_world.temporal.away = False
    shared_world.temporal.refuse = None
    shared_world.temporal.outcome = type(shared_world.temporal.outcome).ACCEPTED


@pytest.fixture
async def api(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app."""
    async with world.client() as client:
        yield client
