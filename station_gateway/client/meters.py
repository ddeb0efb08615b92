"""One nozzle's fuel as an account: what its totaliser has counted against what sales have told of it."""

from dataclasses import dataclass, replace

from contracts.station import SaleRecord

ROUNDING_MILLI = 20
"""How far a totaliser and the sales of its nozzle may differ by rounding: 0.02 L, in thousandths of the unit."""
COARSE_MILLI = 1_000
"""What a totaliser that counts whole units may stand lower than sales say, in thousandths."""


@dataclass(frozen=True, slots=True)
class Meter:
    """Where a totaliser stands by the sales that were told, the gap above that which was noted, and its last reading.

    All in thousandths. A totaliser that stands higher has counted fuel that no sale tells of; one that stands lower
    lags: it is read too early, up to 2 s after the end of a fill.
    """

    due_milli: int
    noted_milli: int
    read_milli: int

    @property
    def stands_milli(self) -> int:
        """Where it should be read now."""
        return self.due_milli + self.noted_milli

    def beyond(self, total_milli: int) -> int:
        """Return how much a reading stands above that; below zero: it lags. What rounding explains is 0."""
        beyond = total_milli - self.stands_milli
        return 0 if abs(beyond) <= ROUNDING_MILLI else beyond

    def is_believed(self, total_milli: int, *, is_settled: bool) -> bool:
        """Return whether a reading that shows no new fuel is where the totaliser stands: else it lags.

        So is one below the last reading, for the meter begins anew, and a settled one that is lower by less than a
        whole unit, for it rounds.
        """
        lower = -self.beyond(total_milli)
        return lower <= 0 or total_milli < self.read_milli or (is_settled and lower < COARSE_MILLI)

    def is_early(self, total_milli: int, quantity_milli: int) -> bool:
        """Return whether a reading was taken before the totaliser had counted a sale that is not told yet."""
        return total_milli < self.due_milli + quantity_milli - ROUNDING_MILLI

    def noted(self, total_milli: int) -> "Meter":
        """Return the account with all that a reading shows and no sale tells as a gap: it may be told later."""
        return replace(self, noted_milli=total_milli - self.due_milli, read_milli=total_milli)

    def after(self, sale: SaleRecord, *, is_orders: bool) -> "Meter":
        """Return the account after a new sale; an order's is its own fuel, nobody's may be that of a noted gap.

        It is the gap's as far as the totaliser, read with the sale, has not moved since the gap was noted.
        """
        moved = max(0, (sale.totaliser_after_milli or 0) - self.stands_milli)
        gaps = 0 if is_orders else min(self.noted_milli, max(0, sale.quantity_milli - moved))
        return Meter(self.due_milli + sale.quantity_milli, self.noted_milli - gaps, self.read_milli)


def believed(meter: Meter | None, total_milli: int) -> Meter:
    """Return the account by a reading that is believed; what it does not contradict stays noted."""
    noted = 0 if meter is None or meter.beyond(total_milli) else meter.noted_milli
    return Meter(total_milli - noted, noted, total_milli)


def first_meter(sale: SaleRecord) -> Meter | None:
    """Return the account of a nozzle of which nothing was known before a sale; None when that tells no totaliser.

    It may not have been counted where it is read.
    """
    total = sale.totaliser_after_milli
    return None if total is None else Meter(total, 0, total - sale.quantity_milli)
