"""Fixtures of the adapter tests."""

import time
from collections.abc import Iterator

import pytest
import responses

from tests.unit.adapters.kit import Ticker, TinyWeChat


@pytest.fixture
def wechat() -> Iterator[TinyWeChat]:
    """A tiny WeChat on every host. Its clock starts at the wall clock, because certificates are dated."""
    tiny = TinyWeChat(clock=Ticker(int(time.time())))
    with responses.RequestsMock(assert_all_requests_are_fired=False) as rsps:
        tiny.install(rsps)
        yield tiny
