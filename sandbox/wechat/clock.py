"""The sandbox clock: follows a time source, can be frozen, sped up and moved forward, never back."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

BEIJING = timezone(timedelta(hours=8))


def wall_ms() -> int:
    """Milliseconds since the epoch of the machine; the default time source."""
    return time.time_ns() // 1_000_000


def rfc3339(at_ms: int) -> str:
    """Beijing time with seconds, as WeChat writes it: 2015-05-20T13:29:35+08:00."""
    return datetime.fromtimestamp(at_ms // 1000, tz=BEIJING).isoformat()


def parse_rfc3339(text: str) -> int:
    """Milliseconds of an RFC 3339 time with an offset; raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or "T" not in text:
        raise ValueError(text)
    return int((moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))


class SandboxClock:
    """Business time of the sandbox in milliseconds.

    `source_ms` stays the *signature* time: moving the sandbox clock by days must not make every signature
    stale.
    """

    def __init__(self, source: Callable[[], int] = wall_ms, *, frozen: bool = False) -> None:
        self._source = source
        self._anchor_source = source()
        self._anchor_value = self._anchor_source
        self._rate = 0 if frozen else 1

    def source_ms(self) -> int:
        """The untouched time source, used for signature timestamps."""
        return self._source()

    def now_ms(self) -> int:
        """Sandbox time in milliseconds since the epoch."""
        return self._anchor_value + (self._source() - self._anchor_source) * self._rate

    def now(self) -> datetime:
        """Sandbox time, UTC-aware."""
        return datetime.fromtimestamp(self.now_ms() / 1000, tz=UTC)

    def jump_to(self, at_ms: int) -> None:
        """Move forward to `at_ms`; a time that has passed already changes nothing."""
        now = self.now_ms()
        self._anchor_source, self._anchor_value = self._source(), max(now, at_ms)

    def set_rate(self, rate: int) -> None:
        """0 freezes, 1 follows the source, n runs n times as fast."""
        if rate < 0:
            raise ValueError("the clock only moves forward")
        self.jump_to(0)
        self._rate = rate

    def snapshot(self) -> dict[str, int]:
        """What has to be kept to continue after a restart."""
        return {"source_ms": self._anchor_source, "value_ms": self._anchor_value, "rate": self._rate}

    def restore(self, kept: dict[str, int]) -> None:
        """Continue from `snapshot()`."""
        self._anchor_source, self._anchor_value = kept["source_ms"], kept["value_ms"]
        self._rate = kept["rate"]
