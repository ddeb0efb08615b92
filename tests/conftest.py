"""Session fixtures that everybody uses: PostgreSQL with the real schema, and both Temporal servers.

See tests/README.md.
"""

import asyncio
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from tests.environments import start_dev_server, start_time_skipping
from workers.embedded.postgres import EmbeddedPostgres, run_migrations
from workers.embedded.process import Child, wait_until

pytest_plugins = ["tests.feature_report"]

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile("repeatable")

_TEMPLATE = "jiazhu_template"
_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[EmbeddedPostgres]:
    """A throw-away cluster of this session, without fsync; killed with its folder at the end."""
    folder = Path(tempfile.mkdtemp(prefix="jz-pg-"))
    cluster = EmbeddedPostgres(folder / "postgres", durable=False)
    child = Child(cluster.spec(), folder / "logs")
    try:
        child.start()
        assert wait_until(child.is_ready, 30), child.last_lines()
        yield cluster
    finally:
        child.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(postgres_cluster: EmbeddedPostgres) -> str:
    """The template database with every migration applied. Copied for tests, never connected to by them."""
    postgres_cluster.ensure_database(_TEMPLATE)
    if (_ROOT / "db" / "migrations" / "env.py").exists():
        run_migrations(postgres_cluster.url(_TEMPLATE))
    return postgres_cluster.url(_TEMPLATE)


def _copy(cluster: EmbeddedPostgres, label: str) -> str:
    readable = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")[-40:]
    name = f"t_{readable}_{uuid.uuid4().hex[:8]}"
    cluster.ensure_database(name, template=_TEMPLATE)
    return name


@pytest.fixture(scope="module")
def database_url(
    postgres_cluster: EmbeddedPostgres, postgres_url: str, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A fresh, migrated database of this test module (SQLAlchemy URL)."""
    assert postgres_url.startswith("postgresql")
    name = _copy(postgres_cluster, request.node.name)
    yield postgres_cluster.url(name)
    postgres_cluster.drop_database(name)


@pytest.fixture
def fresh_database_url(
    postgres_cluster: EmbeddedPostgres, postgres_url: str, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A fresh, migrated database of this one test."""
    assert postgres_url.startswith("postgresql")
    name = _copy(postgres_cluster, request.node.name)
    yield postgres_cluster.url(name)
    postgres_cluster.drop_database(name)


@pytest.fixture(scope="session")
async def temporal_env() -> AsyncIterator[WorkflowEnvironment]:
    """Temporal's dev server in memory (real time), with our search attributes."""
    environment = await start_dev_server()
    yield environment
    await environment.shutdown()


@pytest.fixture
def temporal_client(temporal_env: WorkflowEnvironment) -> Client:
    """A client of `temporal_env` with the pydantic converter."""
    return temporal_env.client


@pytest.fixture(scope="session")
async def time_skipping_env() -> AsyncIterator[WorkflowEnvironment]:
    """The time-skipping test server: timers of hours pass at once. No lists, no schedules."""
    environment = await start_time_skipping()
    yield environment
    await environment.shutdown()


def pytest_sessionfinish() -> None:
    """Let Temporal's core threads end before the interpreter does (a known crash at exit on 3.11)."""
    if "temporalio.bridge.runtime" in sys.modules:
        asyncio.run(asyncio.sleep(0.3))
