"""Notifications: proved from the raw bytes, opened, typed, or refused with a reason."""

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adapters.payments.wechat.errors import NotificationRejectedError, RejectReason
from adapters.payments.wechat.keys import unseal
from adapters.payments.wechat.notification import NotificationVerifier
from tests.unit.adapters.kit import TinyWeChat

TRADE = "PABCDEFGHIJKLMNOPQRSTUA001"


def payment(wechat: TinyWeChat, **changes: Any) -> dict[str, Any]:
    content = {
        "mchid": wechat.keys.mchid,
        "appid": wechat.keys.appid,
        "out_trade_no": TRADE,
        "transaction_id": "4200000000000000000000000001",
        "trade_state": "SUCCESS",
        "success_time": "2023-11-15T06:13:20+08:00",
        "amount": {"total": 10000, "payer_total": 9500, "currency": "CNY"},
    }
    return {**content, **changes}


def verifier(wechat: TinyWeChat, **changes: Any) -> NotificationVerifier:
    core = wechat.core(**changes)
    return NotificationVerifier(keys=core.keys, mchid=wechat.keys.mchid, appid=wechat.keys.appid)


def reason_of(judge: NotificationVerifier, headers: dict[str, str], raw: bytes) -> RejectReason:
    with pytest.raises(NotificationRejectedError) as caught:
        judge.verify(headers, raw)
    assert 400 <= caught.value.http_status <= 500
    return caught.value.reason


def test_payment_is_typed(wechat: TinyWeChat) -> None:
    event = verifier(wechat).verify(*wechat.notification("TRANSACTION.SUCCESS", payment(wechat)))
    assert (event.id, event.event_type, event.out_trade_no) == ("EV-1", "TRANSACTION.SUCCESS", TRADE)
    assert (event.amount_fen, event.payer_amount_fen) == (10000, 9500)
    assert event.occurred_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert event.dedupe_key == f"TRANSACTION.SUCCESS:{TRADE}"


@pytest.mark.parametrize(
    ("event_type", "status", "time"),
    [
        ("REFUND.SUCCESS", "SUCCESS", {"success_time": "2023-11-15T06:13:20+08:00"}),
        ("REFUND.ABNORMAL", "ABNORMAL", {}),
        ("REFUND.CLOSED", "CLOSED", {}),
    ],
)
def test_refund_is_typed(wechat: TinyWeChat, event_type: str, status: str, time: dict[str, str]) -> None:
    content = {
        "mchid": wechat.keys.mchid,
        "out_trade_no": TRADE,
        "transaction_id": "42",
        "out_refund_no": f"{TRADE}Rrest",
        "refund_id": "503",
        "refund_status": status,
        "amount": {"total": 10000, "refund": 3000, "payer_total": 10000, "payer_refund": 3000},
        **time,
    }
    event = verifier(wechat).verify(*wechat.notification(event_type, content))
    assert (event.out_refund_no, event.refund_status) == (f"{TRADE}Rrest", status)
    assert event.amount_fen == 3000
    assert (event.occurred_at is None) == (not time)
    assert event.dedupe_key == f"{event_type}:{TRADE}Rrest"


def test_an_amount_in_another_currency_is_no_fen(wechat: TinyWeChat) -> None:
    amount = {"total": 10000, "payer_total": 9500, "currency": "JPY"}
    event = verifier(wechat).verify(
        *wechat.notification("TRANSACTION.SUCCESS", payment(wechat, amount=amount))
    )
    assert (event.amount_fen, event.payer_amount_fen) == (0, 0)


def test_unknown_event_types_are_proved_but_empty(wechat: TinyWeChat) -> None:
    event = verifier(wechat).verify(*wechat.notification("PROFITSHARING", {"mchid": wechat.keys.mchid}))
    assert (event.out_trade_no, event.dedupe_key) == ("", "PROFITSHARING:EV-1")


def test_header_spellings(wechat: TinyWeChat) -> None:
    headers, raw = wechat.notification("TRANSACTION.SUCCESS", payment(wechat))
    judge = verifier(wechat)
    lower = {name.lower(): value for name, value in headers.items()}
    wsgi = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}
    assert judge.verify(lower, raw) == judge.verify(wsgi, raw) == judge.verify(headers, raw)


def test_g1_replay_window(wechat: TinyWeChat) -> None:
    headers, raw = wechat.notification("TRANSACTION.SUCCESS", payment(wechat))
    judge = verifier(wechat)
    wechat.clock.now += 300
    assert judge.verify(headers, raw).out_trade_no == TRADE
    wechat.clock.now += 1
    assert reason_of(judge, headers, raw) is RejectReason.STALE
    wechat.clock.now += 3300
    assert reason_of(judge, headers, raw) is RejectReason.STALE


def test_probe_is_refused(wechat: TinyWeChat) -> None:
    headers, raw = wechat.notification("TRANSACTION.SUCCESS", payment(wechat))
    probe = {**headers, "Wechatpay-Signature": "WECHATPAY/SIGNTEST/" + headers["Wechatpay-Signature"]}
    with pytest.raises(NotificationRejectedError) as caught:
        verifier(wechat).verify(probe, raw)
    assert (caught.value.reason, caught.value.http_status) == (RejectReason.PROBE, 401)


def test_g2_unknown_serial(wechat: TinyWeChat) -> None:
    headers, raw = wechat.notification("TRANSACTION.SUCCESS", payment(wechat))
    for serial in ("PUB_KEY_ID_x", "AB" * 20):
        strange = {**headers, "Wechatpay-Serial": serial}
        assert reason_of(verifier(wechat), strange, raw) is RejectReason.UNKNOWN_SERIAL
    assert wechat.seen == []


def test_missing_headers_and_types(wechat: TinyWeChat) -> None:
    headers, raw = wechat.notification("TRANSACTION.SUCCESS", payment(wechat))
    judge = verifier(wechat)
    for name in ("Signature", "Timestamp", "Nonce", "Serial"):
        rest = {key: value for key, value in headers.items() if key != f"Wechatpay-{name}"}
        assert reason_of(judge, rest, raw) is RejectReason.MISSING_HEADERS
    odd = {**headers, "Wechatpay-Signature-Type": "WECHATPAY2-SM2-WITH-SM3"}
    assert reason_of(judge, odd, raw) is RejectReason.BAD_SIGNATURE
    for stamp in ("soon", "9" * 5000, "9" * 13, "-1", "1e9", "١٧٠٠٠٠٠٠٠٠"):
        odd = {**headers, "Wechatpay-Timestamp": stamp}
        assert reason_of(judge, odd, raw) is RejectReason.STALE
    assert reason_of(judge, {**headers, "Wechatpay-Signature": "%%"}, raw) is RejectReason.BAD_SIGNATURE


def test_r40_reserialised_bodies_do_not_verify(wechat: TinyWeChat) -> None:
    headers, raw = wechat.notification("TRANSACTION.SUCCESS", payment(wechat))
    again = json.dumps(json.loads(raw)).encode()
    assert again != raw
    assert reason_of(verifier(wechat), headers, again) is RejectReason.BAD_SIGNATURE


def test_r43_platform_certificate_signs_during_the_migration(wechat: TinyWeChat) -> None:
    pair = wechat.notification("TRANSACTION.SUCCESS", payment(wechat), platform=True)
    held = verifier(wechat, platform_certificates=[wechat.keys.platform_certificate_pem])
    assert held.verify(*pair).out_trade_no == TRADE
    fetched = verifier(wechat, download_certificates=True)
    wechat.answers = [wechat.certificate_list()]
    assert fetched.verify(*pair).out_trade_no == TRADE
    assert len(wechat.seen) == 1


def test_r50_two_apiv3_keys_during_the_change(wechat: TinyWeChat) -> None:
    old, other = "o" * 32, "x" * 32
    sealed_old = wechat.notification("TRANSACTION.SUCCESS", payment(wechat), apiv3_key=old)
    sealed_other = wechat.notification("TRANSACTION.SUCCESS", payment(wechat), apiv3_key=other)
    judge = verifier(wechat, apiv3_key_old=old)
    assert judge.verify(*sealed_old).out_trade_no == TRADE
    assert judge.verify(*wechat.notification("TRANSACTION.SUCCESS", payment(wechat))).out_trade_no == TRADE
    with pytest.raises(NotificationRejectedError) as caught:
        judge.verify(*sealed_other)
    assert (caught.value.reason, caught.value.http_status) == (RejectReason.DECRYPT_FAILED, 500)


def test_another_merchant_or_app(wechat: TinyWeChat) -> None:
    for change in ({"mchid": "1900000001"}, {"appid": "wxother"}):
        pair = wechat.notification("TRANSACTION.SUCCESS", payment(wechat, **change))
        assert reason_of(verifier(wechat), *pair) is RejectReason.WRONG_MERCHANT


@pytest.mark.parametrize(
    "change",
    [
        {"amount": {"total": "10000"}},
        {"amount": {"total": 100.0}},
        {"amount": {"total": True}},
        {"amount": None},
        {"out_trade_no": ""},
        {"trade_state": 3},
        {"success_time": "yesterday"},
        {"success_time": 5},
    ],
)
def test_malformed_contents(wechat: TinyWeChat, change: dict[str, Any]) -> None:
    pair = wechat.notification("TRANSACTION.SUCCESS", payment(wechat, **change))
    assert reason_of(verifier(wechat), *pair) is RejectReason.MALFORMED


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"resource_type":"plain"}',
        b'{"resource_type":"encrypt-resource","resource":{}}',
        b'{"resource_type":"encrypt-resource","resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"1","ciphertext":"?"}}',
        b'{"resource_type":"encrypt-resource","resource":{"algorithm":"AEAD_AES_256_GCM","nonce":"","ciphertext":"AA=="}}',
        b'{"resource_type":"encrypt-resource","resource":{"algorithm":"ROT13","nonce":"1","ciphertext":"AA=="}}',
    ],
)
def test_signed_garbage_is_malformed(wechat: TinyWeChat, raw: bytes) -> None:
    assert reason_of(verifier(wechat), wechat.headers(raw), raw) is RejectReason.MALFORMED


def test_associated_data_may_be_empty_or_missing() -> None:
    key = b"k" * 32
    data = b64encode(AESGCM(key).encrypt(b"123456789012", b"text", b"")).decode()
    resource = {"algorithm": "AEAD_AES_256_GCM", "nonce": "123456789012", "ciphertext": data}
    assert unseal([key], resource) == b"text"
    assert unseal([b"w" * 32, key], {**resource, "associated_data": ""}) == b"text"


def test_published_aes_gcm_vector() -> None:
    """AES-256-GCM vector of WeChat's own Java library (AeadAesCipherTest, published test key)."""
    key = b"a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb"
    resource = {
        "algorithm": "AEAD_AES_256_GCM",
        "nonce": "uluk4a9R25RW",
        "associated_data": "associatedData",
        "ciphertext": "ulwSiIajGClcvcOYvOQ7+l+0PAbzzwI=",
    }
    assert unseal([key], resource) == b"message"
    for change in (
        {"nonce": "uluk4a9R25RX"},
        {"associated_data": "other"},
        {"ciphertext": "ulwSiIajGClcvcOYvOQ7+l+0PAbzzwM="},
    ):
        with pytest.raises(InvalidTag):
            unseal([key], {**resource, **change})


def test_notifications_are_frozen_messages(wechat: TinyWeChat) -> None:
    event = verifier(wechat).verify(*wechat.notification("TRANSACTION.SUCCESS", payment(wechat)))
    assert replace(event, id="EV-2").dedupe_key == event.dedupe_key
