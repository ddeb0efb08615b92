"""The harness of the workflow tests: one database and one worker a module, fresh fakes a test."""

from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from tests.workflows.harness import Harness, running

TEST_LIMIT_S = 30


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
