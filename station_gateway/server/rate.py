"""A token bucket: so many at once, so many a second after that."""

from collections.abc import Callable


class OverLimitError(Exception):
    """A station sends more than it may; nothing was taken. `retry_s` is when it may send this again."""

    def __init__(self, retry_s: float) -> None:
        super().__init__(f"again in {retry_s:.0f} s")
        self.retry_s = retry_s


class TokenBucket:
    """Counts by a monotonic clock in seconds; starts full."""

    def __init__(self, *, per_s: float, most: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._most = most
        self._clock = clock
        self._level = most
        self._at = clock()

    def take(self, count: int = 1) -> float:
        """Take `count` tokens and return 0, or take none and return the seconds until they are there.

        More than the bucket holds is let through when it is full, or it would never pass.
        """
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._at) * self._per_s)
        self._at = now
        missing = min(float(count), self._most) - self._level
        if missing <= 0:
            self._level -= count
            return 0.0
        return missing / self._per_s
