"""Notifications from WeChat Pay: proved, opened and typed, or refused with a reason.

A notification is a hint; the query is the truth. Not every event is told (no failures, nothing for pay
codes), an event may come often and out of order, and its id may differ between repeats.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidTag

from adapters.payments.wechat.errors import (
    NotificationRejectedError,
    RejectReason,
    StaleError,
    UnknownSerialError,
    UnsignedError,
    VerificationError,
)
from adapters.payments.wechat.keys import KeyStore, unseal, wechat_headers
from adapters.payments.wechat.outcomes import fen, foreign_currency

ACCEPTED_STATUS = 204
"""Answer this within 5 s, after the notification is stored."""
REJECTED_BODY = {"code": "FAIL", "message": "失败"}
_PROBE = "WECHATPAY/SIGNTEST/"
_REASONS: tuple[tuple[type[VerificationError], RejectReason], ...] = (
    (UnsignedError, RejectReason.MISSING_HEADERS),
    (StaleError, RejectReason.STALE),
    (UnknownSerialError, RejectReason.UNKNOWN_SERIAL),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One proved event. `amount_fen` is the order total of a payment, the refunded amount of a refund;
    0 when it is not in yuan.

    `dedupe_key` is stable over WeChat's repeats, `id` need not be. An event type that this version does
    not know has empty trade fields.
    """

    id: str
    event_type: str
    out_trade_no: str = ""
    out_refund_no: str = ""
    trade_state: str = ""
    refund_status: str = ""
    transaction_id: str = ""
    refund_id: str = ""
    amount_fen: int = 0
    payer_amount_fen: int = 0
    occurred_at: datetime | None = None

    @property
    def dedupe_key(self) -> str:
        """Return what makes the business event unique, for the inbox."""
        number = self.out_refund_no or self.out_trade_no
        return f"{self.event_type}:{number}" if number else f"{self.event_type}:{self.id}"


class NotificationVerifier:
    """Verifies from the raw body; thread-safe. It shares the key store of the transport."""

    def __init__(self, *, keys: KeyStore, mchid: str, appid: str) -> None:
        self._keys = keys
        self._mchid = mchid
        self._appid = appid

    def verify(self, headers: Mapping[str, str], raw: bytes) -> Notification:
        """Return the event in these exact bytes; raises NotificationRejectedError.

        Give the body as received: re-serialised JSON does not verify.
        """
        if wechat_headers(headers).get("signature", "").startswith(_PROBE):
            raise NotificationRejectedError(RejectReason.PROBE)
        try:
            self._keys.verify(headers, raw)
        except VerificationError as error:
            reason = next((r for kind, r in _REASONS if isinstance(error, kind)), RejectReason.BAD_SIGNATURE)
            raise NotificationRejectedError(reason, str(error)) from error
        try:
            return self._opened(json.loads(raw))
        except InvalidTag as error:
            raise NotificationRejectedError(RejectReason.DECRYPT_FAILED) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotificationRejectedError(RejectReason.MALFORMED, type(error).__name__) from error

    def _opened(self, envelope: dict[str, Any]) -> Notification:
        if envelope["resource_type"] != "encrypt-resource":
            raise ValueError("unknown resource type")
        content = json.loads(unseal(self._keys.apiv3_keys, envelope["resource"]))
        if content["mchid"] != self._mchid or content.get("appid", self._appid) != self._appid:
            raise NotificationRejectedError(RejectReason.WRONG_MERCHANT)
        event_id, event_type = _text(envelope, "id"), _text(envelope, "event_type")
        if event_type.startswith("TRANSACTION."):
            return _payment(event_id, event_type, content)
        if event_type.startswith("REFUND."):
            return _refund(event_id, event_type, content)
        return Notification(id=event_id, event_type=event_type)


def _payment(event_id: str, event_type: str, content: dict[str, Any]) -> Notification:
    total = _amount(content, "total")
    return Notification(
        id=event_id,
        event_type=event_type,
        out_trade_no=_text(content, "out_trade_no"),
        trade_state=_text(content, "trade_state"),
        transaction_id=_text(content, "transaction_id"),
        amount_fen=total,
        payer_amount_fen=_amount(content, "payer_total", total),
        occurred_at=_when(content),
    )


def _refund(event_id: str, event_type: str, content: dict[str, Any]) -> Notification:
    refunded = _amount(content, "refund")
    return Notification(
        id=event_id,
        event_type=event_type,
        out_trade_no=_text(content, "out_trade_no"),
        out_refund_no=_text(content, "out_refund_no"),
        refund_status=_text(content, "refund_status"),
        transaction_id=_text(content, "transaction_id"),
        refund_id=_text(content, "refund_id"),
        amount_fen=refunded,
        payer_amount_fen=_amount(content, "payer_refund", refunded),
        occurred_at=_when(content),
    )


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is not a text")
    return value


def _amount(content: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = fen(content["amount"], name)
    if value is not None and foreign_currency(content["amount"]):
        return 0
    if value is None and default is not None:
        return default
    if value is None:
        raise ValueError(f"amount.{name} is not an integer")
    return value


def _when(content: Mapping[str, Any]) -> datetime | None:
    """A refund that did not succeed carries no time."""
    value = content.get("success_time")
    return datetime.fromisoformat(value).astimezone(UTC) if value else None
