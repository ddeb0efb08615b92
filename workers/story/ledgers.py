"""Three ledgers side by side: ours, the sandbox's and the dispensers', order by order and in sum."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, text

from workers.story.people import Addresses, Forecourt, Line

_OPEN = """
SELECT o.order_no, o.status, o.needs_person FROM fuel_order o
WHERE o.status NOT IN ('completed', 'refunded', 'expired', 'cancelled')
   OR EXISTS (SELECT 1 FROM payment_attempt a WHERE a.order_no = o.order_no AND a.status = 'open')
   OR EXISTS (SELECT 1 FROM refund r WHERE r.order_no = o.order_no AND r.status <> 'succeeded')
ORDER BY o.created_at
"""
_BY_ATTEMPT = """
SELECT a.out_trade_no, CASE WHEN a.status = 'succeeded' THEN a.amount_fen ELSE 0 END AS paid_fen,
       coalesce(sum(r.amount_fen) FILTER (WHERE r.status = 'succeeded'), 0)::bigint AS refunded_fen
FROM payment_attempt a LEFT JOIN refund r ON r.out_trade_no = a.out_trade_no
WHERE a.method <> 'cash' GROUP BY a.out_trade_no, a.status, a.amount_fen
"""
_CLEARING = """
SELECT coalesce(sum(CASE side WHEN 'D' THEN amount_fen ELSE -amount_fen END), 0)::bigint AS n
FROM ledger_entry WHERE account = :account
"""
_SALES = """
SELECT p.node, p.fp, n.device_nozzle, s.sequence, s.amount_fen, s.quantity_milli
FROM sale s JOIN fuelling_point p ON p.id = s.fuelling_point_id JOIN nozzle n ON n.id = s.nozzle_id
WHERE s.quantity_milli > 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the three ledgers say; amounts in fen, quantities in thousandths. `differences` is empty when equal."""

    our_paid_fen: int
    our_refunded_fen: int
    our_clearing_fen: int
    sandbox_paid_fen: int
    sandbox_refunded_fen: int
    our_sales: int
    our_sales_fen: int
    our_quantity_milli: int
    dispenser_sales: int
    dispenser_sales_fen: int
    dispenser_quantity_milli: int
    open_orders: int
    trial_balance_fen: int
    differences: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Return whether nothing is lost, doubled or unaccounted for."""
        return not self.differences


def _rows(engine: Engine, sql: str, **values: Any) -> list[dict[str, Any]]:
    with engine.connect() as db:
        return [dict(row) for row in db.execute(text(sql), values).mappings()]


def open_orders(engine: Engine) -> list[dict[str, Any]]:
    """Return the orders that have not ended, or whose other attempts and refunds have not."""
    return _rows(engine, _OPEN)


def compare(engine: Engine, addresses: Addresses) -> Comparison:
    """Read all three ledgers and name every difference."""
    ours = {row["out_trade_no"]: row for row in _rows(engine, _BY_ATTEMPT)}
    sandbox = Line(addresses.wechat).must("GET", "/_sandbox/ledger")["orders"]
    theirs = {row["out_trade_no"]: row for row in sandbox}
    differences = []
    for number in sorted(set(ours) | set(theirs)):
        mine, other = ours.get(number), theirs.get(number)
        left = (mine["paid_fen"], mine["refunded_fen"]) if mine else (0, 0)
        right = (other["paid_fen"], other["refunded_fen"]) if other else (0, 0)
        reversed_code = other is not None and right[0] == right[1] and left == (0, 0)
        if left != right and not reversed_code:
            differences.append(f"{number}: ours paid/refunded {left}, channel {right}")
    sales = {
        (r["node"], r["fp"], r["device_nozzle"], r["sequence"]): (r["amount_fen"], r["quantity_milli"])
        for r in _rows(engine, _SALES)
    }
    pumped = {
        (r["node"], r["fp"], r["nozzle"] - 0x10, r["seq"]): (r["amount_fen"], r["quantity_milli"])
        for r in Forecourt(addresses).sales()
        if r["quantity_milli"] > 0
    }
    for key in sorted(set(sales) | set(pumped)):
        if sales.get(key) != pumped.get(key):
            differences.append(f"sale {key}: ours {sales.get(key)}, dispenser {pumped.get(key)}")
    waiting = open_orders(engine)
    differences += [f"order {o['order_no']} is still {o['status']} {o['needs_person']}" for o in waiting]
    paid = sum(r["paid_fen"] for r in ours.values())
    refunded = sum(r["refunded_fen"] for r in ours.values())
    clearing = int(_rows(engine, _CLEARING, account="1010.wechat")[0]["n"])
    if clearing != paid - refunded:
        differences.append(f"clearing account {clearing} fen, payments minus refunds {paid - refunded} fen")
    trial = int(
        _rows(
            engine,
            "SELECT coalesce(sum(CASE side WHEN 'D' THEN amount_fen ELSE -amount_fen END), 0)::bigint"
            " AS n FROM ledger_entry",
        )[0]["n"]
    )
    if trial:
        differences.append(f"the trial balance is {trial} fen")
    return Comparison(
        our_paid_fen=paid,
        our_refunded_fen=refunded,
        our_clearing_fen=clearing,
        sandbox_paid_fen=sum(r["paid_fen"] for r in theirs.values()),
        sandbox_refunded_fen=sum(r["refunded_fen"] for r in theirs.values()),
        our_sales=len(sales),
        our_sales_fen=sum(a for a, _ in sales.values()),
        our_quantity_milli=sum(q for _, q in sales.values()),
        dispenser_sales=len(pumped),
        dispenser_sales_fen=sum(a for a, _ in pumped.values()),
        dispenser_quantity_milli=sum(q for _, q in pumped.values()),
        open_orders=len(waiting),
        trial_balance_fen=trial,
        differences=tuple(differences),
    )
