"""WeChat's codes and states as closed outcomes, held as data and matched on `code`, not on the HTTP status.

A code that no table names is UNKNOWN. Sources: WeChat Pay v3 error tables of each endpoint and its
troubleshooting manual (the numbers at the end of `Request-ID`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.payments.wechat.core import Reply
from domain.payment import CloseKind, OutcomeKind, RefundKind

CURRENCY = "CNY"

ERRNO_REENTRY_DIFFERS = 268498688
"""The number is known with other parameters. An order exists that may be paid: a bug here, never a FAILED."""
ERRNO_REVERSE_ONLY = 268449641
ERRNO_PAID = frozenset({268449538, 268498689})
ERRNO_DEAD = 268447914

_CONFIG = (OutcomeKind.FAILED, False)
_PAYER = (OutcomeKind.FAILED, True)
_ASK = (OutcomeKind.UNKNOWN, False)

CREATE_ERRORS: Mapping[str, tuple[OutcomeKind, bool]] = {
    "PARAM_ERROR": _CONFIG,
    "INVALID_REQUEST": _CONFIG,
    "APPID_MCHID_NOT_MATCH": _CONFIG,
    "MCH_NOT_EXISTS": _CONFIG,
    "NO_AUTH": _CONFIG,
    "OPENID_MISMATCH": _CONFIG,
    "INVALID_TRANSACTIONID": _CONFIG,
    "RULE_LIMIT": _PAYER,
    "ACCOUNT_ERROR": _PAYER,
    "TRADE_ERROR": _PAYER,
    "NOT_ENOUGH": _PAYER,
    "ORDER_CLOSED": _PAYER,
    "ORDER_REVERSED": _PAYER,
    "AUTH_CODE_EXPIRE": _PAYER,
    "AUTH_CODE_INVALID": _PAYER,
    "USER_NOT_EXISTS": _PAYER,
    "USERPAYING": (OutcomeKind.PENDING, False),
    "OUT_TRADE_NO_USED": _ASK,
    "ORDER_PAID": _ASK,
    "SIGN_ERROR": _ASK,
    "FREQUENCY_LIMITED": _ASK,
    "RATELIMIT_EXCEEDED": _ASK,
    "SYSTEM_ERROR": _ASK,
    "BANK_ERROR": _ASK,
    "BIZ_ERR_NEED_RETRY": _ASK,
}
"""Code -> outcome of a create or a charge, and whether a new attempt (new number) makes sense."""

STATES: Mapping[str, OutcomeKind] = {
    "SUCCESS": OutcomeKind.SUCCEEDED,
    "REFUND": OutcomeKind.SUCCEEDED,
    "NOTPAY": OutcomeKind.PENDING,
    "USERPAYING": OutcomeKind.PENDING,
    "CLOSED": OutcomeKind.FAILED,
    "REVOKED": OutcomeKind.FAILED,
    "PAYERROR": OutcomeKind.FAILED,
}
"""`trade_state` of a transaction. REFUND means that it was paid and something went back later."""

NOT_FOUND_CODES = frozenset({"ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS"})

CLOSE_ERRORS: Mapping[str, CloseKind] = {
    "ORDER_PAID": CloseKind.ALREADY_PAID,
    "ORDER_CLOSED": CloseKind.CLOSED,
    "ORDER_REVERSED": CloseKind.CLOSED,
    "ORDER_NOT_EXIST": CloseKind.NOT_FOUND,
    "RESOURCE_NOT_EXISTS": CloseKind.NOT_FOUND,
}
REVERSE_ERRORS: Mapping[str, CloseKind] = {
    "ORDER_CLOSED": CloseKind.CLOSED,
    "ORDER_REVERSED": CloseKind.CLOSED,
    "ORDER_NOT_EXIST": CloseKind.NOT_FOUND,
    "RESOURCE_NOT_EXISTS": CloseKind.NOT_FOUND,
    "PARAM_ERROR": CloseKind.REFUSED,
    "APPID_MCHID_NOT_MATCH": CloseKind.REFUSED,
    "MCH_NOT_EXISTS": CloseKind.REFUSED,
    "NO_AUTH": CloseKind.REFUSED,
    "RULE_LIMIT": CloseKind.REFUSED,
}
"""REFUSED: a merchant without the right to reverse. INVALID_REQUEST is also a payment that is too young for it (15 s)."""
REFUND_STATES: Mapping[str, RefundKind] = {
    "PROCESSING": RefundKind.PROCESSING,
    "SUCCESS": RefundKind.SUCCEEDED,
    "ABNORMAL": RefundKind.ABNORMAL,
    "CLOSED": RefundKind.CLOSED,
}
REFUND_ERRORS: Mapping[str, RefundKind] = {
    "NOT_ENOUGH": RefundKind.INSUFFICIENT,
    "PARAM_ERROR": RefundKind.REJECTED,
    "INVALID_REQUEST": RefundKind.REJECTED,
    "NO_AUTH": RefundKind.REJECTED,
    "MCH_NOT_EXISTS": RefundKind.REJECTED,
    "APPID_MCHID_NOT_MATCH": RefundKind.REJECTED,
    "REQUEST_BLOCKED": RefundKind.REJECTED,
    "USER_ACCOUNT_ABNORMAL": RefundKind.REJECTED,
    "RESOURCE_NOT_EXISTS": RefundKind.REJECTED,
    "ORDER_NOT_EXIST": RefundKind.REJECTED,
    "TRADE_ERROR": RefundKind.REJECTED,
    "RULE_LIMIT": RefundKind.REJECTED,
    "INVALID_TRANSACTIONID": RefundKind.REJECTED,
}
"""A refund without its payment is REJECTED, not NOT_FOUND: that word is for the refund itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelError:
    """The error body of an answer; `errno` is the number at the end of `Request-ID`, 0 if there is none."""

    code: str
    message: str
    errno: int


def payload(reply: Reply) -> dict[str, Any] | None:
    """Return the JSON object of an answer, None for anything else (truncated, HTML, a list)."""
    try:
        value = json.loads(reply.body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def channel_error(reply: Reply) -> ChannelError:
    """Read an error answer; a body that is no error object gives the code `HTTP_<status>`."""
    body = payload(reply) or {}
    code, message = body.get("code"), body.get("message")
    suffix = reply.request_id.rpartition("-")[2]
    return ChannelError(
        code=code if isinstance(code, str) and code else f"HTTP_{reply.status}",
        message=message if isinstance(message, str) else "",
        errno=int(suffix) if suffix.isascii() and suffix.isdigit() and len(suffix) <= 12 else 0,
    )


def created(error: ChannelError) -> tuple[OutcomeKind, bool]:
    """Return outcome and `new_attempt_allowed` of a signed create error."""
    if error.errno == ERRNO_REENTRY_DIFFERS or error.errno in ERRNO_PAID:
        return _ASK
    return CREATE_ERRORS.get(error.code, _ASK)


def closed(error: ChannelError) -> CloseKind:
    """Return the outcome of a signed close error."""
    if error.errno == ERRNO_REVERSE_ONLY:
        return CloseKind.MUST_REVERSE
    if error.errno in ERRNO_PAID:
        return CloseKind.ALREADY_PAID
    return CLOSE_ERRORS.get(error.code, CloseKind.UNKNOWN)


def fen(amount: object, name: str) -> int | None:
    """Return an amount in fen out of an `amount` object, None when it is not there as a plain integer."""
    value = amount.get(name) if isinstance(amount, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def foreign_currency(amount: object) -> str:
    """Return the currency of an `amount` object when it is not ours, else nothing: its integers are then no fen.

    WeChat may leave `currency` out; a domestic merchant's money is CNY then (v3, "amount.currency").
    """
    value = amount.get("currency", CURRENCY) if isinstance(amount, dict) else CURRENCY
    if value == CURRENCY:
        return ""
    return value if isinstance(value, str) and value.isascii() and value.isalpha() else "?"
