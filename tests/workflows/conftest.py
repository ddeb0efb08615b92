"""The harness of the workflow tests: one database and one worker a module, fresh fakes a test."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from tests.environments import start_time_skipping
from tests.workflows.harness import Harness, running

TEST_LIMIT_S = 30
STUCK_AFTER_S = 15


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A workflow that hangs costs half a minute, never more; a test with a limit of its own keeps it."""
    for item in items:
        if "tests/workflows" in item.path.as_posix() and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_LIMIT_S))


@pytest.fixture(scope="module")
async def module_harness(temporal_env: WorkflowEnvironment, database_url: str) -> AsyncIterator[Harness]:
    """The worker of a module on the real-time server."""
    client: Client = temporal_env.client
    async with running(client, database_url) as found:
        yield found


@pytest.fixture
async def harness(module_harness: Harness) -> AsyncIterator[Harness]:
    """A running FillAndPay worker with fresh fakes, on the real-time server."""
    module_harness.fresh()
    yield module_harness
    await module_harness.end_all()


@pytest.fixture(scope="module")
async def time_skipping_env() -> AsyncIterator[WorkflowEnvironment]:
    """A time-skipping server of this module, whose time may stand still once, for a quarter of a minute, and no more.

    Time is not skipped while a task waits for a worker, so a mistake in one test would stop all the later ones.
    """
    environment = await start_time_skipping()
    skip, stuck = environment.sleep, False

    async def bounded(duration: timedelta | float) -> None:
        nonlocal stuck
        assert not stuck, "time stood still in an earlier test of this module"
        try:
            await asyncio.wait_for(skip(duration), STUCK_AFTER_S)
        except TimeoutError as error:
            stuck = True
            raise AssertionError("time does not pass: a task waits for a worker") from error

    setattr(environment, "sleep", bounded)  # noqa: B010 - of this one environment
    yield environment
    await environment.shutdown()


@pytest.fixture(scope="module")
async def module_skipping(
    time_skipping_env: WorkflowEnvironment, database_url: str
) -> AsyncIterator[Harness]:
    """The worker of a module on the time-skipping server."""
    async with running(time_skipping_env.client, database_url) as found:
        yield found


@pytest.fixture
async def skipping(module_skipping: Harness) -> AsyncIterator[Harness]:
    """A running FillAndPay worker with fresh fakes, on the time-skipping server."""
    module_skipping.fresh()
    yield module_skipping
    await module_skipping.end_all()
