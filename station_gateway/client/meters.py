"""One nozzle's fuel as an account: what its totaliser has counted against what sales have told of it."""

from dataclasses import dataclass
from datetime import datetime

from contracts.station import SaleRecord

ROUNDING_MILLI = 20
"""How far a totaliser and the sales of its nozzle may differ by rounding: 0.02 L, in thousandths of the unit."""
COARSE_MILLI = 1_000
"""What a totaliser that counts whole units may stand lower than sales say, in thousandths."""
GAP_S = 10.0
"""How long after a gap was noted a sale may still tell of it; boards write a transaction within 2 s."""


@dataclass(frozen=True, slots=True)
class Meter:
    """Where a totaliser stands by the sales that were told, the gap above that which was noted, and its last reading.

    All in thousandths. A totaliser that stands higher has counted fuel that no sale tells of; one that stands lower
    lags: it is read too early, up to 2 s after the end of a fill.
    """

    due_milli: int
    noted_milli: int
    read_milli: int
    noted_ms: int = 0
    """When the gap was noted, in milliseconds since 1970."""

    @property
    def stands_milli(self) -> int:
        """Where it should be read now."""
        return self.due_milli + self.noted_milli

    def beyond(self, total_milli: int) -> int:
        """Return how much a reading stands above that; below zero: it lags. What rounding explains is 0."""
        beyond = total_milli - self.stands_milli
        return 0 if abs(beyond) <= ROUNDING_MILLI else beyond

    def is_believed(self, total_milli: int, *, is_settled: bool, is_final: bool) -> bool:
        """Return whether a reading that shows no new fuel is where the totaliser stands: else it lags.

        So is one below the last reading, for the meter begins anew; a settled one that is lower by less than a whole
        unit, for it rounds, or that has moved, for it does not lag; and any after a long rest (`is_final`).
        """
        lower = -self.beyond(total_milli)
        moves = lower < COARSE_MILLI or total_milli > self.read_milli
        return lower <= 0 or total_milli < self.read_milli or (is_settled and moves) or is_final

    def is_early(self, total_milli: int, quantity_milli: int) -> bool:
        """Return whether a reading was taken before the totaliser had counted a sale that is not told yet."""
        return total_milli < self.stands_milli + quantity_milli - ROUNDING_MILLI

    def noted(self, total_milli: int, now: datetime) -> "Meter":
        """Return the account with all that a reading shows and no sale tells as a gap: it may be told soon."""
        return Meter(self.due_milli, total_milli - self.due_milli, total_milli, _ms(now))

    def after(self, sale: SaleRecord, *, is_orders: bool, in_record: bool) -> "Meter":
        """Return the account after a new sale; an order's is its own fuel, nobody's may be that of a gap just noted.

        It is the gap's as far as the totaliser, told by the record or read with it, has not moved since. A gap over
        which an order was released will not be told any more, nor one that is older when the totaliser was read and
        the wire was there. A totaliser that agrees takes the rounding of the quantity back, one of whole units too.

        So with 100 L due and a gap of 5 L noted, nobody's sale of 5 L tells of the gap when the totaliser still reads
        105 L, and leaves the gap as it is when it reads 110 L.
        """
        is_telling = in_record and (sale.totaliser_after_milli or 0) >= max(1, sale.quantity_milli)
        is_soon = 0 <= _ms(sale.recorded_at) - self.noted_ms < GAP_S * 1000
        is_fresh = not is_orders and (is_telling or sale.offline or is_soon)
        noted, total = self.noted_milli if is_fresh else 0, sale.totaliser_after_milli
        moved = max(0, total - self.stands_milli) if total is not None else 0
        told = min(noted, max(0, sale.quantity_milli - moved))
        stands = self.stands_milli + sale.quantity_milli - told
        is_coarse = in_record and not (self.read_milli % COARSE_MILLI or (total or 0) % COARSE_MILLI)
        within = COARSE_MILLI - 1 if is_coarse else ROUNDING_MILLI
        if total is not None and abs(total - stands) <= within:
            stands = total
        return Meter(stands - noted + told, noted - told, self.read_milli, self.noted_ms)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def believed(meter: Meter | None, total_milli: int) -> Meter:
    """Return the account by a reading that is believed; what it does not contradict stays noted."""
    if meter is None or meter.beyond(total_milli):
        return Meter(total_milli, 0, total_milli)
    return Meter(total_milli - meter.noted_milli, meter.noted_milli, total_milli, meter.noted_ms)


def first_meter(sale: SaleRecord) -> Meter | None:
    """Return the account of a nozzle of which nothing was known before a sale; None when that tells no totaliser.

    It may not have been counted where it is read.
    """
    total = sale.totaliser_after_milli
    return None if total is None else Meter(total, 0, total - sale.quantity_milli)
