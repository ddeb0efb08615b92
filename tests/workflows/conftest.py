"""The harness of the workflow tests: one database a module, one worker a test."""

from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client

from tests.workflows.harness import Harness, running


@pytest.fixture
async def harness(temporal_client: Client, database_url: str) -> AsyncIterator[Harness]:
    """A running FillAndPay worker with fakes, on the real-time server."""
    async with running(temporal_client, database_url) as found:
        yield found
