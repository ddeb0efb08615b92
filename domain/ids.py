"""Business ids and keys, derived and never drawn: a retry computes the same id and meets its own earlier effect.

WeChat Pay limits: `out_trade_no` 6-32 characters of [0-9A-Za-z_-|*], `out_refund_no` at most 64.
"""

import base64
import hashlib
from collections.abc import Iterable

ORDER_NO_LENGTH = 22
_PREPAID, _POSTPAID = "P", "S"


def _digest(*parts: str, length: int) -> str:
    joined = "\x1f".join(parts).encode()
    return base64.b32encode(hashlib.sha256(joined).digest()).decode()[:length]


def order_no_of_start(subject: str, idempotency_key: str) -> str:
    """Return the order number of a prepaid start: who asked and with which idempotency key."""
    return _PREPAID + _digest("start", subject, idempotency_key, length=ORDER_NO_LENGTH - 1)


def order_no_of_sale(natural_key: str) -> str:
    """Return the order number of a sale that the dispenser finished before anybody paid."""
    return _POSTPAID + _digest("sale", natural_key, length=ORDER_NO_LENGTH - 1)


def fill_workflow_id(order_no: str) -> str:
    """Return the workflow id of an order's FillAndPay."""
    return f"fill-{order_no}"


def surplus_workflow_id(out_trade_no: str) -> str:
    """Return the workflow id that gives a payment back whose order has already ended."""
    return f"surplus-{out_trade_no}"


def out_trade_no(order_no: str, attempt: int) -> str:
    """Return the channel's order number of the n-th payment attempt (n from 1).

    Raises ValueError beyond 999 attempts: the number would no longer be unique in its width.
    """
    if not 1 <= attempt <= 999:
        raise ValueError(f"attempt out of range: {attempt}")
    return f"{order_no}A{attempt:03d}"


def order_no_of_trade(trade_no: str) -> str:
    """Return the order number inside a channel order number; the inverse of `out_trade_no`.

    Raises ValueError when it is not one of ours.
    """
    order_no, sep, attempt = trade_no.rpartition("A")
    if not sep or len(order_no) != ORDER_NO_LENGTH or len(attempt) != 3 or not attempt.isdigit():
        raise ValueError(f"not a Jiazhu out_trade_no: {trade_no!r}")
    return order_no


def out_refund_no(trade_no: str, purpose: str) -> str:
    """Return the refund number of an attempt for one purpose (`rest`, `all`, `surplus`, `mismatch`): same purpose, same number."""
    return f"{trade_no}R{purpose}"


def next_refund_no(refund_no: str) -> str:
    """Return the number that follows a refund that its channel closed for good: `...-2`, `...-3`."""
    return f"{first_refund_no(refund_no)}-{refund_turn(refund_no) + 1}"


def refund_turn(refund_no: str) -> int:
    """Return the how manieth number of its refund this is, from 1; the highest one is the one that is owed."""
    return int(refund_no.partition("-")[2] or 1)


def first_refund_no(refund_no: str) -> str:
    """Return the number that a refund had at first: money goes back once under all numbers derived from it."""
    return refund_no.partition("-")[0]


def latest_refund_nos(numbers: Iterable[str]) -> set[str]:
    """Return the highest number of each refund: a closed number that a later one replaced owes nothing more.

    The number says which is later: two workers' clocks may disagree about which row is younger.
    """
    return set({first_refund_no(one): one for one in sorted(numbers, key=refund_turn)}.values())


def authorise_command_id(order_no: str) -> str:
    """Return the id of the one authorise command that an order may ever send to a dispenser."""
    return f"auth-{order_no}"


def stop_command_id(order_no: str) -> str:
    """Return the id of the command that withdraws an order's authorisation."""
    return f"stop-{order_no}"


def receipt_no(order_no: str) -> str:
    """Return the number of an order's only receipt."""
    return f"R{order_no}"


def body_hash(body: bytes) -> str:
    """Return the hash that an idempotency key is bound to: same key and other body is an error."""
    return hashlib.sha256(body).hexdigest()
