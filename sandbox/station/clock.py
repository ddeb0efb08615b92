"""Two times of a simulated station.

Protocol timers (heartbeat, re-send, authorise timeout) run in real milliseconds, the flow of fuel in
virtual ones, so a demonstration can fill a tank in three seconds without the protocol becoming three
hundred times as talkative.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

RATE_MIN = 1
RATE_MAX = 1000


class Clock:
    """Virtual time is real time multiplied by an integer rate; `instant` lets a fill take no time at all."""

    def __init__(
        self,
        *,
        rate: int = 1,
        instant: bool = False,
        real_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
        wall: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
    ) -> None:
        self._source = real_ms
        self.wall = wall
        self._rate = _checked(rate)
        self.instant = instant
        self._real_anchor = real_ms()
        self._virtual_anchor = 0

    @property
    def rate(self) -> int:
        """How many virtual seconds pass in a real one."""
        return self._rate

    def set_rate(self, rate: int) -> None:
        """Change the rate from now on; raises ValueError outside 1..1000. Virtual time does not jump."""
        checked = _checked(rate)
        now = self.virtual_ms()
        self._real_anchor = self._source()
        self._virtual_anchor = now
        self._rate = checked

    def real_ms(self) -> int:
        """Milliseconds of real (monotonic) time."""
        return self._source()

    def virtual_ms(self) -> int:
        """Milliseconds of virtual time."""
        return self._virtual_anchor + (self._source() - self._real_anchor) * self._rate

    def real_when(self, virtual_ms: int) -> int:
        """The real millisecond at which virtual time has reached `virtual_ms`."""
        return self._real_anchor - (self._virtual_anchor - virtual_ms) // self._rate


def _checked(rate: int) -> int:
    if not RATE_MIN <= rate <= RATE_MAX:
        raise ValueError(f"rate must be {RATE_MIN}..{RATE_MAX}")
    return rate


class ManualTime:
    """Hand-turned real time for deterministic tests: pass the object as `real_ms`."""

    def __init__(self, at_ms: int = 0) -> None:
        self.at_ms = at_ms

    def __call__(self) -> int:
        return self.at_ms
