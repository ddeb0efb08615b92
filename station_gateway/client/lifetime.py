"""How long a command may still be executed: counted here from its arrival, because a station's clock may be wrong."""

import time
from collections.abc import Callable
from datetime import UTC, datetime


class Lifetime:
    """The rest of one delivered command's life.

    With `ttl_s` (the seconds that the server gave it at delivery) only the steady clock counts. Without it the
    age is unknown, and the wall clock against `expires_at` is all there is.
    """

    def __init__(
        self,
        expires_at: datetime,
        ttl_s: int | None,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._expires_at = expires_at
        self._now = now
        self._monotonic = monotonic
        self._ends_at = None if ttl_s is None else monotonic() + ttl_s

    @property
    def is_over(self) -> bool:
        """Return whether the command must not be executed any more."""
        if self._ends_at is not None:
            return self._monotonic() >= self._ends_at
        return self._now() >= self._expires_at


def utc_now() -> datetime:
    """Return the time; injected so that tests can move it."""
    return datetime.now(tz=UTC)
