"""What a finished sale costs: the check of the device's figures and the split of the money already taken.

The meter's amount is the legal value (JJG 443): it is charged as shown. The platform computes price x quantity
itself and holds both against each other: inside the display's tolerance |A - P*V| <= P*u_V + u_A the meter wins,
outside it nothing is charged by itself and a person decides. A charger has no price of its own, so there the
platform's amount is the amount.
"""

from dataclasses import dataclass
from enum import StrEnum

from domain.money import amount_fen, round_half_up

QUANTITY_STEP_MILLI = 10
"""The smallest step a dispenser shows: 0.01 L, m³ or kg (JJG 443, 最小体积变量)."""
AMOUNT_STEP_FEN = 1
CASE_DIFFERENCE_FEN = 1
"""A difference above one fen between meter and platform is kept as a case, even when the meter's amount stands."""
LARGEST_PRICE_FEN = LARGEST_SEQUENCE = 2**31 - 1
LARGEST_FIGURE = 10**12
"""The largest amount (fen), quantity and totaliser (thousandths) that is kept: far beyond every tank and till, and
price x quantity still fits in 64 bits. Anything outside is a broken report, kept at the limit and flagged."""


class SaleFlag(StrEnum):
    """What is odd about a sale; all but AMOUNT_CASE wait for a person."""

    NONE = ""
    AMOUNT_MISMATCH = "amount_mismatch"
    PRICE_MISMATCH = "price_mismatch"
    SYNTHESISED = "synthesised"
    """Rebuilt from the totaliser because the dispenser lost its transaction."""
    UNEXPECTED = "unexpected"
    """Fuel on an order that had already ended."""
    UNIT_MISMATCH = "unit_mismatch"
    """The dispenser counts in another unit than its nozzle sells in."""
    ZERO_AMOUNT = "zero_amount"
    """Nothing to charge for fuel that nobody ordered: a dispenser with a price of nothing gives fuel away."""
    OUT_OF_RANGE = "out_of_range"
    """A figure that no dispenser can mean."""
    KEY_TAKEN = "sale_key_taken"
    """The sale's natural key is booked on another order already: one of the two is wrong."""
    AMOUNT_CASE = "amount_case"
    """Meter and platform differ by more than one fen, legally: charged as shown and kept as a case (003-K1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedAmount:
    """The amount to charge in fen, the platform's own figure, and why a person must look first (if so)."""

    charge_fen: int
    platform_fen: int
    flag: SaleFlag

    @property
    def is_case(self) -> bool:
        """Return whether meter and platform differ by more than one fen."""
        return abs(self.charge_fen - self.platform_fen) > CASE_DIFFERENCE_FEN

    def mark(self, flag: SaleFlag) -> SaleFlag:
        """Return what the sale's row says: why a person must look, else that the figures are a case."""
        return flag or (SaleFlag.AMOUNT_CASE if self.is_case else SaleFlag.NONE)


def tolerance_fen(price_fen_per_unit: int) -> int:
    """Return the largest legal difference between the shown amount and price x quantity, in fen."""
    return round_half_up(price_fen_per_unit * QUANTITY_STEP_MILLI, 1000) + AMOUNT_STEP_FEN


def check_amount(
    *, device_fen: int, price_fen_per_unit: int, quantity_milli: int, platform_priced: bool
) -> CheckedAmount:
    """Hold the device's amount against price x quantity; amounts in fen, quantity in thousandths of the unit."""
    own = amount_fen(price_fen_per_unit, quantity_milli)
    if platform_priced:
        return CheckedAmount(charge_fen=own, platform_fen=own, flag=SaleFlag.NONE)
    legal = abs(device_fen - own) <= tolerance_fen(price_fen_per_unit)
    flag = SaleFlag.NONE if legal else SaleFlag.AMOUNT_MISMATCH
    return CheckedAmount(charge_fen=device_fen, platform_fen=own, flag=flag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How prepaid money is used, all in fen: charge + rest = paid + shortfall."""

    charge_fen: int
    rest_fen: int
    shortfall_fen: int


def settle_prepaid(*, paid_fen: int, charge_fen: int) -> Settlement:
    """Use prepaid money for a charge: the rest goes back; what exceeds it is a shortfall, never taken by itself."""
    return Settlement(
        charge_fen=charge_fen,
        rest_fen=max(paid_fen - charge_fen, 0),
        shortfall_fen=max(charge_fen - paid_fen, 0),
    )
