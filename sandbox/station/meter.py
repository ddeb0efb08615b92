"""The physics of a nozzle: flow, pulses, preset and the amount that the display may show. Integers only.

A pulse is 0.01 of the nozzle's unit. The shown amount obeys JJG 443: it differs from price x quantity by
at most the smallest payable step (price x 0.01 unit) plus one fen.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

MS_PER_MIN = 60_000
MAX_CENTI = 99_999_999
MAX_AMOUNT_FEN = 99_999_999
RAMP_MS = 1500
SLOW_BAND_CENTI = 50
SLOW_SHARE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowCurve:
    """Quantity over time: a linear ramp, steady flow, then a trickle for the last half unit before a preset.

    Distances are in hundredths of the unit times 60 000, so a rate in hundredths a minute times
    milliseconds is exact.
    """

    rate: int
    ramp_ms: int = RAMP_MS
    slow_centi: int = SLOW_BAND_CENTI
    preset: int | None = None

    @property
    def _slow_rate(self) -> int:
        return max(1, self.rate // SLOW_SHARE)

    @property
    def _fast_part(self) -> int | None:
        if self.preset is None:
            return None
        return max(0, self.preset - self.slow_centi) * MS_PER_MIN

    def centi_at(self, elapsed_ms: int) -> int:
        """Pulses that have passed after `elapsed_ms` of flow."""
        fast = self._fast_part
        free = self._free(elapsed_ms)
        if fast is None or free < fast:
            return free // MS_PER_MIN
        slow = (elapsed_ms - self._free_time(fast)) * self._slow_rate
        return (fast + max(0, slow)) // MS_PER_MIN

    def ms_to(self, centi: int) -> int:
        """Milliseconds of flow until at least `centi` pulses have passed."""
        distance = centi * MS_PER_MIN
        fast = self._fast_part
        if fast is None or distance <= fast:
            return self._free_time(distance)
        return self._free_time(fast) - (fast - distance) // self._slow_rate

    def _free(self, elapsed_ms: int) -> int:
        if elapsed_ms < self.ramp_ms:
            return self.rate * elapsed_ms * elapsed_ms // (2 * self.ramp_ms)
        return self.rate * self.ramp_ms // 2 + self.rate * (elapsed_ms - self.ramp_ms)

    def _free_time(self, distance: int) -> int:
        ramp = self.rate * self.ramp_ms // 2
        if distance > ramp:
            return self.ramp_ms - (ramp - distance) // self.rate
        if distance <= 0:
            return 0
        return isqrt((distance * 2 * self.ramp_ms - 1) // self.rate) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Where the valve closes: an amount, a quantity, or nothing (free fill)."""

    amount_fen: int | None = None
    centi: int | None = None

    def stop_centi(self, price_fen: int) -> int | None:
        """The last pulse before the valve closes; at least one pulse, since a valve cannot give less."""
        if self.amount_fen is not None:
            return max(1, self.amount_fen * 100 // price_fen)
        return self.centi


FREE = Preset()


def shown_amount_fen(*, price_fen: int, centi: int, preset: Preset = FREE) -> int:
    """The amount on the display: the preset amount when the valve closed for it, else price x quantity, cut
    to a fen.
    """
    if preset.amount_fen is not None and centi == preset.stop_centi(price_fen):
        return preset.amount_fen
    return price_fen * centi // 100


def is_legal(*, amount_fen: int, price_fen: int, centi: int) -> bool:
    """|A - P x V| <= P x 0.01 unit + 0.01 yuan (JJG 443)."""
    return abs(amount_fen * 100 - price_fen * centi) <= price_fen + 100


class Meter:
    """One fill. Times are virtual milliseconds. The price is latched for good when the meter is made."""

    def __init__(
        self,
        *,
        price_fen: int,
        rate: int,
        preset: Preset = FREE,
        limit_centi: int | None = None,
        overshoot: int = 0,
        instant: bool = False,
    ) -> None:
        self.price_fen = price_fen
        self.preset = preset
        self._rate = rate
        self._instant = instant
        valve = preset.stop_centi(price_fen)
        ends = [MAX_CENTI, MAX_AMOUNT_FEN * 100 // price_fen]
        if valve is not None:
            ends.append(valve + overshoot)
        self._valve = valve
        self._end = min(ends)
        self._open_ended = valve is None and limit_centi is None
        self.limit(limit_centi)
        self._base = 0
        self._since: int | None = None
        self._curve: FlowCurve | None = None

    def limit(self, centi: int | None) -> None:
        """The customer lets go of the trigger at `centi`, if the valve has not closed before."""
        if centi is not None:
            self._end = min(self._end, max(0, centi))
            self._open_ended = False

    @property
    def end_centi(self) -> int:
        """The pulse at which the flow stops by itself."""
        return self._end

    @property
    def reached_preset(self) -> bool:
        """True when the valve, not the customer, ended the flow."""
        return self._valve is not None and self._base >= self._valve

    @property
    def flowing(self) -> bool:
        """True between start and stop."""
        return self._since is not None

    def start(self, now: int) -> None:
        """Open the valve (first time, or again after a suspension)."""
        rest = None if self._valve is None else max(0, self._valve - self._base)
        self._curve = FlowCurve(rate=self._rate, preset=rest)
        self._since = now

    def stop(self, now: int) -> None:
        """Close the valve; what has passed stays on the display."""
        self._base = self.centi(now)
        self._since = None

    def centi(self, now: int) -> int:
        """Pulses so far; never decreases while `now` does not."""
        if self._since is None or self._curve is None:
            return self._base
        if self._instant and not self._open_ended:
            return self._end
        return min(self._end, self._base + self._curve.centi_at(now - self._since))

    def amount_fen(self, now: int) -> int:
        """The amount on the display."""
        return shown_amount_fen(price_fen=self.price_fen, centi=self.centi(now), preset=self.preset)

    def due(self) -> int | None:
        """When the flow stops by itself, or None when nothing flows or nothing bounds it."""
        if self._since is None or self._curve is None:
            return None
        if self._instant and not self._open_ended:
            return self._since
        return self._since + self._curve.ms_to(self._end - self._base)
