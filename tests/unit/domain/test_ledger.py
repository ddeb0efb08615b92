"""Every journal balances for any amount, and the postings of a whole order close what they opened."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import ledger
from domain.ledger import Account, Entry, Journal, Side
from domain.settlement import settle_prepaid

FEN = st.integers(min_value=1, max_value=10**10)
RATES = st.sampled_from([0, 300, 600, 900, 1300])
CHANNELS = st.sampled_from(["wechat", "cash"])


def balances(journals: Iterable[Journal]) -> Counter[Account]:
    """Return debit minus credit by account."""
    found: Counter[Account] = Counter()
    for journal in journals:
        for entry in journal.entries:
            found[entry.account] += entry.amount_fen if entry.side is Side.DEBIT else -entry.amount_fen
    return found


@given(FEN, FEN, st.booleans(), RATES, CHANNELS, st.booleans())
def test_prepaid_order_closes(
    paid: int, charge: int, gas: bool, rate: int, channel: str, collected: bool
) -> None:
    cut = settle_prepaid(paid_fen=paid, charge_fen=charge)
    journals = [
        ledger.prepaid_received("t", channel, paid),
        ledger.prepaid_settled(
            "o",
            charge_fen=charge,
            rest_fen=cut.rest_fen,
            shortfall_fen=cut.shortfall_fen,
            gas=gas,
            tax_rate_bp=rate,
        ),
    ]
    if cut.rest_fen:
        journals.append(ledger.refund_paid("r", channel, cut.rest_fen))
    if cut.shortfall_fen:
        decide = ledger.shortfall_collected("o", "cash", cut.shortfall_fen)
        journals.append(decide if collected else ledger.shortfall_written_off("o", cut.shortfall_fen))
    found = balances(journals)
    assert sum(found.values()) == 0
    for account in (Account.PREPAID, Account.REFUND_PAYABLE, Account.SUSPENSE, Account.RECEIVABLE):
        assert found[account] == 0, account
    income = Account.SALES_GAS if gas else Account.SALES_OIL
    assert found[income] + found[Account.VAT_OUTPUT] == -charge
    kept = found[Account.CLEARING_WECHAT] + found[Account.CLEARING_CASH] + found[Account.BAD_DEBT]
    assert kept == charge


@given(FEN, CHANNELS)
def test_returned_prepayment_leaves_nothing(paid: int, channel: str) -> None:
    journals = [
        ledger.prepaid_received("t", channel, paid),
        ledger.prepaid_returned("o", paid),
        ledger.refund_paid("r", channel, paid),
    ]
    assert set(balances(journals).values()) == {0}


@given(FEN, st.booleans(), RATES, CHANNELS, st.integers(min_value=0, max_value=4))
def test_postpaid_order_closes_whoever_else_pays(
    charge: int, gas: bool, rate: int, channel: str, others: int
) -> None:
    journals = [
        ledger.sale_on_credit("o", charge, gas=gas, tax_rate_bp=rate),
        ledger.receivable_paid("t0", channel, charge),
    ]
    for number in range(others):
        journals.append(ledger.surplus_received(f"t{number + 1}", "wechat", charge))
        journals.append(ledger.refund_paid(f"r{number + 1}", "wechat", charge))
    found = balances(journals)
    assert found[Account.RECEIVABLE] == found[Account.REFUND_PAYABLE] == 0
    assert found[ledger.clearing(channel)] == charge
    assert len({journal.key for journal in journals}) == len(journals)


@given(FEN, st.booleans(), RATES)
def test_written_off_sale_is_a_loss(charge: int, gas: bool, rate: int) -> None:
    sale = ledger.sale_on_credit("o", charge, gas=gas, tax_rate_bp=rate)
    found = balances([sale, ledger.receivable_written_off("o", charge)])
    assert (found[Account.RECEIVABLE], found[Account.BAD_DEBT]) == (0, charge)


@given(st.lists(st.tuples(st.sampled_from(Side), st.integers(min_value=-5, max_value=5)), max_size=6))
def test_only_balanced_positive_journals_exist(lines: list[tuple[Side, int]]) -> None:
    entries = tuple(Entry(account=Account.SUSPENSE, side=side, amount_fen=fen) for side, fen in lines)
    total = sum(fen if side is Side.DEBIT else -fen for side, fen in lines)
    if lines and total == 0 and all(fen > 0 for _, fen in lines):
        assert Journal(key="k", memo="", entries=entries).entries == entries
        return
    with pytest.raises(ValueError, match="does not balance"):
        Journal(key="k", memo="", entries=entries)


def test_unknown_channel_has_no_account() -> None:
    with pytest.raises(ValueError, match="bank"):
        ledger.clearing("bank")
