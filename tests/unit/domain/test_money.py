"""Money: shares sum to the whole, one rounding, VAT taken out of a gross price."""

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import amount_fen, round_half_up, split, tax_of_gross, yuan

FEN = st.integers(min_value=0, max_value=10**12)
WEIGHTS = st.lists(st.integers(min_value=0, max_value=10**6), min_size=1, max_size=12).filter(any)


@given(FEN, WEIGHTS)
def test_shares_sum_to_the_whole_and_none_is_negative(total: int, weights: list[int]) -> None:
    parts = split(total, weights)
    assert sum(parts) == total
    assert all(part >= 0 for part in parts)
    assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if weight == 0)


@given(FEN, WEIGHTS)
def test_each_share_is_within_a_fen_of_the_exact_one(total: int, weights: list[int]) -> None:
    whole = sum(weights)
    for part, weight in zip(split(total, weights), weights, strict=True):
        assert abs(part * whole - total * weight) <= whole


def test_many_halves_never_overdraw_the_last_share() -> None:
    assert split(2, [1, 1, 1, 1]) == [1, 0, 1, 0]
    assert split(100, [1, 1, 1]) == [33, 34, 33]


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [-1, 5]])
def test_senseless_weights_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        split(100, weights)


@given(st.integers(min_value=-(10**12), max_value=10**12), st.integers(min_value=1, max_value=10**6))
def test_rounding_is_half_up_away_from_zero(numerator: int, denominator: int) -> None:
    exact = (Decimal(numerator) / Decimal(denominator)).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    if (
        abs(numerator) % denominator * 2 == denominator
        or abs(exact * denominator - numerator) * 2 < denominator
    ):
        assert round_half_up(numerator, denominator) == int(exact)
    assert round_half_up(-numerator, denominator) == -round_half_up(numerator, denominator)


@pytest.mark.parametrize("denominator", [0, -1])
def test_rounding_needs_a_positive_denominator(denominator: int) -> None:
    with pytest.raises(ValueError, match="denominator"):
        round_half_up(1, denominator)


@given(FEN, st.sampled_from([0, 300, 600, 900, 1300]))
def test_tax_is_part_of_the_gross_amount(gross: int, rate_bp: int) -> None:
    tax = tax_of_gross(gross, rate_bp)
    net = gross - tax
    assert 0 <= tax <= gross
    assert abs(tax * 10_000 - net * rate_bp) <= 10_000 + rate_bp


@pytest.mark.parametrize(
    ("gross", "rate_bp", "tax"),
    [(11_300, 1300, 1_300), (10_900, 900, 900), (1, 1300, 0), (14_700, 1300, 1_691)],
)
def test_tax_as_on_paper(gross: int, rate_bp: int, tax: int) -> None:
    assert tax_of_gross(gross, rate_bp) == tax


@pytest.mark.parametrize(
    ("price", "milli", "fen"),
    [(735, 20_000, 14_700), (735, 6_800, 4_998), (1, 500, 1), (1, 499, 0), (785, 27_035, 21_222)],
)
def test_amount_as_on_paper(price: int, milli: int, fen: int) -> None:
    assert amount_fen(price, milli) == fen


@given(st.integers(min_value=-(10**14), max_value=10**14))
def test_yuan_reads_back_as_the_same_fen(fen: int) -> None:
    assert int(Decimal(yuan(fen)) * 100) == fen
    assert yuan(fen)[-3] == "."
