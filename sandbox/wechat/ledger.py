"""The sandbox's own double-entry book: what payers gave, what the merchant holds, what went back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sandbox.wechat.model import Movement, order_key

PAY = "pay"
REVERSE = "reverse"
REFUND_ACCEPTED = "refund.accepted"
REFUND_DONE = "refund.done"
REFUND_CLOSED = "refund.closed"
COUPONS = "coupons"
IN_TRANSIT = "refunds_in_transit"


@dataclass(slots=True)
class OrderMoney:
    """Totals of one order in fen.

    `refunded_fen` has left for the payer, `in_transit_fen` has left the merchant only.
    """

    paid_fen: int = 0
    refunded_fen: int = 0
    in_transit_fen: int = 0
    payments: int = 0

    @property
    def net_fen(self) -> int:
        """What the payer is still out of pocket (coupons included)."""
        return self.paid_fen - self.refunded_fen


class Ledger:
    """Append-only movements with running balances.

    Accounts: `merchant:{mchid}`, `payer:{openid}`, coupons, transit.
    """

    def __init__(self) -> None:
        self.movements: list[Movement] = []
        self.balances: dict[str, int] = defaultdict(int)
        self.orders: dict[str, OrderMoney] = defaultdict(OrderMoney)

    def load(self, movement: Movement) -> None:
        """Take one leg back from the store."""
        self.movements.append(movement)
        self.balances[movement.account] += movement.fen
        if movement.account == IN_TRANSIT:
            self.orders[order_key(movement.mchid, movement.out_trade_no)].in_transit_fen += movement.fen
            return
        money = self.orders[order_key(movement.mchid, movement.out_trade_no)]
        if movement.account.startswith("merchant:"):
            if movement.kind == PAY:
                money.paid_fen += movement.fen
                money.payments += 1
        elif movement.kind in (REVERSE, REFUND_DONE):
            money.refunded_fen += movement.fen

    def post(
        self, kind: str, posting: str, at_ms: int, mchid: str, out_trade_no: str, legs: dict[str, int]
    ) -> list[Movement]:
        """Book one posting.

        Legs of zero fen are left out. Raises ValueError when the legs do not sum to zero.
        """
        if sum(legs.values()) != 0:
            raise ValueError(f"unbalanced posting {posting}: {legs}")
        booked = []
        for account, fen in legs.items():
            if fen:
                movement = Movement(
                    seq=len(self.movements) + 1,
                    posting=posting,
                    kind=kind,
                    at_ms=at_ms,
                    account=account,
                    mchid=mchid,
                    out_trade_no=out_trade_no,
                    fen=fen,
                )
                self.load(movement)
                booked.append(movement)
        return booked

    def violations(self) -> list[str]:
        """Money that was created or lost, found by adding every movement up again."""
        found = []
        by_posting: dict[str, int] = defaultdict(int)
        by_account: dict[str, int] = defaultdict(int)
        for movement in self.movements:
            by_posting[movement.posting] += movement.fen
            by_account[movement.account] += movement.fen
        found += [f"posting {posting} sums to {total} fen" for posting, total in by_posting.items() if total]
        found += [
            f"balance of {account} is {self.balances[account]}, movements say {total}"
            for account, total in by_account.items()
            if self.balances[account] != total
        ]
        if sum(by_account.values()):
            found.append(f"the book sums to {sum(by_account.values())} fen")
        found += [
            f"{account} is overdrawn by {-total} fen"
            for account, total in by_account.items()
            if total < 0 and (account.startswith("merchant:") or account == IN_TRANSIT)
        ]
        found += [
            f"{key} was paid {money.payments} times"
            for key, money in self.orders.items()
            if money.payments > 1
        ]
        return found
