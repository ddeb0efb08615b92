"""One running stack for the tests of this folder that only use it."""

from collections.abc import Iterator

import pytest

from tests.e2e.running import Running, running_stack


@pytest.fixture(scope="package")
def running() -> Iterator[Running]:
    """The stack; tests share it, so each ends the orders that it begins."""
    with running_stack() as running:
        yield running
