"""One world per test, with the console in front of it."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from api.console import ConsoleDeps, mount_console
from db.session import make_engine
from tests.unit.console.commands import FakeCommands
from tests.unit.console.till import Till
from tests.unit.console.world import NOW, World, build


@pytest.fixture
def engine(fresh_database_url: str) -> Iterator[Engine]:
    """An engine on a migrated, empty database of this test."""
    made = make_engine(fresh_database_url, pool_size=5)
    yield made
    made.dispose()


@pytest.fixture
def world(engine: Engine) -> World:
    """The filled database."""
    return build(engine)


@pytest.fixture
def commands(engine: Engine) -> FakeCommands:
    """The stand-in for the workflows."""
    return FakeCommands(engine=engine, now=NOW)


@pytest.fixture
def till(engine: Engine, world: World, commands: FakeCommands) -> Iterator[Till]:
    """A browser without scripts at the console."""
    app = FastAPI()
    deps = ConsoleDeps(
        engine=engine,
        commands=commands,
        secret_key="test-secret-key",
        clock=lambda: till_.now,
        temporal_ui_url="http://temporal.example:8233/",
        temporal_namespace="default",
        sandbox=True,
        phone_mask=lambda cipher: f"{cipher[-11:-8]}****{cipher[-4:]}",
    )
    mount_console(app, deps)
    with TestClient(app, raise_server_exceptions=False) as client:
        till_ = Till(client=client, world=world)
        yield till_
