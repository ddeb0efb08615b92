"""Money as integer fen (1/100 yuan): one rounding, one split, tax taken out of a gross price.

Rounding is half up away from zero, never banker's rounding: a shown price times a shown quantity must give the
amount that a person computes on paper. VAT is `gross * rate / (1 + rate)`, rounded per line (Chinese VAT law,
art. 10 for the 13 % and 9 % rates; the per-line rule is the invoice platforms').
"""

from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate, pairwise


def round_half_up(numerator: int, denominator: int) -> int:
    """Return numerator / denominator as an integer, halves away from zero.

    Raises ValueError when the denominator is not positive.
    """
    if denominator <= 0:
        raise ValueError(f"denominator must be positive, got {denominator}")
    sign = -1 if numerator < 0 else 1
    return sign * ((2 * abs(numerator) + denominator) // (2 * denominator))


def split(total: int, weights: Sequence[int]) -> list[int]:
    """Share `total` by `weights` so that the parts sum to `total` and each is within a fen of its exact share.

    The cumulated shares are rounded, not the shares: many halves rounded up one by one would overdraw the last part.

    Raises ValueError when no weight is positive or one is negative.
    """
    if any(w < 0 for w in weights) or sum(weights) <= 0:
        raise ValueError(f"weights must be non-negative with a positive sum, got {list(weights)}")
    whole = sum(weights)
    bounds = [0, *(round_half_up(total * sum_so_far, whole) for sum_so_far in accumulate(weights))]
    return [after - before for before, after in pairwise(bounds)]


def tax_of_gross(gross_fen: int, rate_bp: int) -> int:
    """Return the VAT in fen contained in a gross amount; the rate is in basis points (1300 = 13 %)."""
    return round_half_up(gross_fen * rate_bp, 10_000 + rate_bp)


def amount_fen(price_fen_per_unit: int, quantity_milli: int) -> int:
    """Return price x quantity in fen, half up; the quantity is in thousandths of the unit (ml, g, Wh)."""
    return round_half_up(price_fen_per_unit * quantity_milli, 1000)


def yuan(fen: int) -> str:
    """Return fen as yuan with two decimals for people to read: 20025 -> '200.25'."""
    return str((Decimal(fen) / 100).quantize(Decimal("0.01")))
