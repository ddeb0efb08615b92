"""What a sale costs: the meter inside its tolerance, a person outside; the prepayment is split without a loss."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import amount_fen
from domain.quantity import Unit, milli_from_decimal, quantity_text
from domain.settlement import SaleFlag, check_amount, settle_prepaid, tolerance_fen

FEN = st.integers(min_value=0, max_value=10**10)
PRICE = st.integers(min_value=1, max_value=5_000)
MILLI = st.integers(min_value=0, max_value=10**7)


@given(FEN, FEN)
def test_prepayment_is_split_without_a_loss(paid: int, charge: int) -> None:
    cut = settle_prepaid(paid_fen=paid, charge_fen=charge)
    assert cut.charge_fen + cut.rest_fen == paid + cut.shortfall_fen
    assert min(cut.rest_fen, cut.shortfall_fen) == 0
    assert cut.rest_fen >= 0
    assert cut.shortfall_fen >= 0


@given(PRICE, MILLI, st.integers(min_value=-300, max_value=300))
def test_meter_stands_inside_its_tolerance_only(price: int, milli: int, off: int) -> None:
    own = amount_fen(price, milli)
    device = max(own + off, 0)
    found = check_amount(
        device_fen=device, price_fen_per_unit=price, quantity_milli=milli, platform_priced=False
    )
    legal = abs(device - own) <= tolerance_fen(price)
    assert found.charge_fen == device
    assert (found.flag is SaleFlag.NONE) is legal
    assert found.is_case is (abs(device - own) > 1)


@given(PRICE, MILLI, FEN)
def test_charger_has_no_price_of_its_own(price: int, milli: int, device: int) -> None:
    found = check_amount(
        device_fen=device, price_fen_per_unit=price, quantity_milli=milli, platform_priced=True
    )
    assert (found.charge_fen, found.flag) == (amount_fen(price, milli), SaleFlag.NONE)


def test_tolerance_is_a_hundredth_of_a_litre_and_a_fen() -> None:
    assert tolerance_fen(735) == 8
    assert tolerance_fen(100) == 2


@given(MILLI)
def test_quantity_reads_back(milli: int) -> None:
    assert milli_from_decimal(Decimal(milli) / 1000) == milli
    assert milli_from_decimal(Decimal(quantity_text(milli))) == milli
    assert len(quantity_text(milli).rpartition(".")[2]) in (2, 3)


@pytest.mark.parametrize("value", ["-0.001", "0.0001", "1.2345"])
def test_quantity_that_no_device_reports(value: str) -> None:
    with pytest.raises(ValueError, match="thousandths"):
        milli_from_decimal(Decimal(value))


def test_every_unit_has_its_word() -> None:
    assert [unit.label_zh for unit in Unit] == ["升", "立方米", "公斤", "千瓦时"]
