"""Double-entry postings of an order. Amounts in fen, always positive; each journal balances by construction.

Accounts and entries follow the chart of the design: 1010 channel clearing (a sub-account per channel), 1090
suspense, 1100 receivable for fuel delivered and not yet paid, 2040 refunds payable, 2050 output VAT, 2070 prepaid
fills, 4010/4020 sales, 5060 bad debts. Nothing is edited; a correction is a new journal (TigerBeetle: two-phase
transfers, correcting transfers).
"""

from dataclasses import dataclass
from enum import StrEnum

from domain.money import tax_of_gross


class Account(StrEnum):
    """The ledger accounts that fill and pay uses."""

    CLEARING_WECHAT = "1010.wechat"
    CLEARING_CASH = "1010.cash"
    SUSPENSE = "1090"
    RECEIVABLE = "1100"
    REFUND_PAYABLE = "2040"
    VAT_OUTPUT = "2050"
    PREPAID = "2070"
    SALES_OIL = "4010"
    SALES_GAS = "4020"
    BAD_DEBT = "5060"


class Side(StrEnum):
    """Debit or credit."""

    DEBIT = "D"
    CREDIT = "C"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a journal; `amount_fen` > 0."""

    account: Account
    side: Side
    amount_fen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """Entries that balance, under a key that is derived from the business event: same key, same journal.

    Raises ValueError when it does not balance or an amount is not positive.
    """

    key: str
    memo: str
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        debit = sum(e.amount_fen for e in self.entries if e.side is Side.DEBIT)
        credit = sum(e.amount_fen for e in self.entries if e.side is Side.CREDIT)
        if debit != credit or not self.entries or any(e.amount_fen <= 0 for e in self.entries):
            raise ValueError(f"journal {self.key} does not balance: debit {debit}, credit {credit}")


def _journal(key: str, memo: str, *lines: tuple[Account, Side, int]) -> Journal:
    kept = tuple(Entry(account=a, side=s, amount_fen=n) for a, s, n in lines if n != 0)
    return Journal(key=key, memo=memo, entries=kept)


def clearing(channel: str) -> Account:
    """Return the clearing account of a channel (`wechat`, `cash`).

    Raises ValueError for a channel without one.
    """
    return Account(f"1010.{channel}")


def _sales(gross_fen: int, *, gas: bool, tax_rate_bp: int) -> tuple[tuple[Account, Side, int], ...]:
    tax = tax_of_gross(gross_fen, tax_rate_bp)
    income = Account.SALES_GAS if gas else Account.SALES_OIL
    return ((income, Side.CREDIT, gross_fen - tax), (Account.VAT_OUTPUT, Side.CREDIT, tax))


def prepaid_received(out_trade_no: str, channel: str, amount_fen: int) -> Journal:
    """Post money that arrived before the fuel."""
    return _journal(
        f"pay:{out_trade_no}",
        "prepayment received",
        (clearing(channel), Side.DEBIT, amount_fen),
        (Account.PREPAID, Side.CREDIT, amount_fen),
    )


def prepaid_settled(
    order_no: str, *, charge_fen: int, rest_fen: int, shortfall_fen: int, gas: bool, tax_rate_bp: int
) -> Journal:
    """Post a prepaid sale: prepayment becomes income, the rest becomes payable, a shortfall waits in suspense."""
    return _journal(
        f"settle:{order_no}",
        "prepaid sale",
        (Account.PREPAID, Side.DEBIT, charge_fen - shortfall_fen + rest_fen),
        (Account.SUSPENSE, Side.DEBIT, shortfall_fen),
        (Account.REFUND_PAYABLE, Side.CREDIT, rest_fen),
        *(_sales(charge_fen, gas=gas, tax_rate_bp=tax_rate_bp) if charge_fen else ()),
    )


def prepaid_returned(order_no: str, amount_fen: int) -> Journal:
    """Post that a whole prepayment is owed back (nothing was dispensed)."""
    return _journal(
        f"return:{order_no}",
        "prepayment owed back",
        (Account.PREPAID, Side.DEBIT, amount_fen),
        (Account.REFUND_PAYABLE, Side.CREDIT, amount_fen),
    )


def sale_on_credit(order_no: str, charge_fen: int, *, gas: bool, tax_rate_bp: int) -> Journal:
    """Post fuel delivered before anybody paid."""
    return _journal(
        f"sale:{order_no}",
        "post-paid sale",
        (Account.RECEIVABLE, Side.DEBIT, charge_fen),
        *_sales(charge_fen, gas=gas, tax_rate_bp=tax_rate_bp),
    )


def receivable_paid(out_trade_no: str, channel: str, amount_fen: int) -> Journal:
    """Post the payment of a post-paid sale."""
    return _journal(
        f"pay:{out_trade_no}",
        "post-paid sale paid",
        (clearing(channel), Side.DEBIT, amount_fen),
        (Account.RECEIVABLE, Side.CREDIT, amount_fen),
    )


def receivable_written_off(order_no: str, amount_fen: int) -> Journal:
    """Post that a post-paid sale will not be paid (drive-off, test pour), decided by a person."""
    return _journal(
        f"writeoff:{order_no}",
        "unpaid sale written off",
        (Account.BAD_DEBT, Side.DEBIT, amount_fen),
        (Account.RECEIVABLE, Side.CREDIT, amount_fen),
    )


def shortfall_collected(order_no: str, channel: str, amount_fen: int) -> Journal:
    """Post that a shortfall was paid at the counter."""
    return _journal(
        f"shortfall:{order_no}",
        "shortfall collected",
        (clearing(channel), Side.DEBIT, amount_fen),
        (Account.SUSPENSE, Side.CREDIT, amount_fen),
    )


def shortfall_written_off(order_no: str, amount_fen: int) -> Journal:
    """Post that a shortfall is the station's loss, decided by a person."""
    return _journal(
        f"shortfall:{order_no}",
        "shortfall written off",
        (Account.BAD_DEBT, Side.DEBIT, amount_fen),
        (Account.SUSPENSE, Side.CREDIT, amount_fen),
    )


def surplus_received(out_trade_no: str, channel: str, amount_fen: int) -> Journal:
    """Post money that no order may keep: a second or a late payment."""
    return _journal(
        f"pay:{out_trade_no}",
        "surplus payment",
        (clearing(channel), Side.DEBIT, amount_fen),
        (Account.REFUND_PAYABLE, Side.CREDIT, amount_fen),
    )


def refund_paid(out_refund_no: str, channel: str, amount_fen: int) -> Journal:
    """Post that the channel has paid a refund out."""
    return _journal(
        f"refund:{out_refund_no}",
        "refund paid",
        (Account.REFUND_PAYABLE, Side.DEBIT, amount_fen),
        (clearing(channel), Side.CREDIT, amount_fen),
    )
