"""The pauses between looks: they grow to a bound, and a look that is woken begins anew."""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from station_gateway.client import looking
from station_gateway.client.looking import LONGEST_PAUSE_S, LaterLook
from station_gateway.protocols.ifsf.errors import IfsfError


class Waits:
    """Stands for waiting: notes the pauses, and lets those be cut short whose number is in `woken`."""

    def __init__(self, *woken: int) -> None:
        self.pauses: list[float] = []
        self._woken = woken

    async def wait_for(self, waiting: Coroutine[Any, Any, bool], pause: float) -> None:
        waiting.close()
        self.pauses.append(pause)
        if len(self.pauses) not in self._woken:
            raise TimeoutError


async def pauses_of(waits: Waits, monkeypatch: pytest.MonkeyPatch, *, looks: int) -> list[float]:
    """Return the pauses of so many looks, the third of which cannot read the device."""
    monkeypatch.setattr(looking, "asyncio", SimpleNamespace(wait_for=waits.wait_for, Event=asyncio.Event))

    async def look() -> None:
        if len(waits.pauses) == 3:
            raise IfsfError("nonsense")

    later = LaterLook(
        is_needed=lambda: len(waits.pauses) < looks,
        look=look,
        spawn=asyncio.get_running_loop().create_task,
        first_s=1.0,
    )
    later.ask()
    assert later._task is not None
    await later._task
    return waits.pauses


@pytest.mark.feature("003-D2")
async def test_pauses_double_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert await pauses_of(Waits(), monkeypatch, looks=8) == expected


@pytest.mark.feature("003-D2")
async def test_a_look_that_is_woken_pauses_shortly_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await pauses_of(Waits(4), monkeypatch, looks=6) == [1.0, 2.0, 4.0, 8.0, 1.0, 2.0]
