"""A change of WeChat's keys as the settings describe it: the API and the workers accept every key that is signed with."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from adapters.payments.wechat.errors import UnknownSerialError
from api.main import _verifier
from api.ports import NotificationRefusedError
from config.settings import Settings
from sandbox.wechat.keys import generate
from tests.unit.adapters.kit import Ticker, TinyWeChat, material
from workers.bootstrap import wechat_core

TRADE = "PABCDEFGHIJKLMNOPQRSTUA001"
SIGNERS = ("first", "second", "platform")


@pytest.fixture(scope="module")
def signers() -> dict[str, TinyWeChat]:
    """The same WeChat, signing with its public key, with the next one, and with a platform certificate."""
    clock, fresh = Ticker(int(time.time())), generate()
    other = replace(
        material(),
        wechat_private_pem=fresh.wechat_private_pem,
        wechat_public_pem=fresh.wechat_public_pem,
        wechat_public_key_id=fresh.wechat_public_key_id,
    )
    first = TinyWeChat(clock=clock)
    return {"first": first, "second": TinyWeChat(clock=clock, keys=other), "platform": first}


def _settings(folder: Path, signers: dict[str, TinyWeChat], *, during_the_change: bool) -> Settings:
    keys, other = signers["first"].keys, signers["second"].keys
    files = {
        "merchant": keys.merchant_private_pem,
        "first": keys.wechat_public_pem,
        "second": other.wechat_public_pem,
        "certificate": keys.platform_certificate_pem,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    change: dict[str, Any] = {
        "wechat_public_key_second_id": other.wechat_public_key_id,
        "wechat_public_key_second_path": folder / "second",
        "wechat_platform_certificate_paths": str(folder / "certificate"),
    }
    return Settings(
        wechat_mchid=keys.mchid,
        wechat_appid=keys.appid,
        wechat_apiv3_key=SecretStr(keys.apiv3_key),
        wechat_merchant_serial=keys.merchant_serial,
        wechat_merchant_private_key_path=folder / "merchant",
        wechat_public_key_id=keys.wechat_public_key_id,
        wechat_public_key_path=folder / "first",
        **(change if during_the_change else {}),
    )


def _notification(signer: TinyWeChat, *, platform: bool) -> tuple[dict[str, str], bytes]:
    content = {
        "mchid": signer.keys.mchid,
        "appid": signer.keys.appid,
        "out_trade_no": TRADE,
        "transaction_id": "4200000000000000000000000001",
        "trade_state": "SUCCESS",
        "success_time": "2023-11-15T06:13:20+08:00",
        "amount": {"total": 10000, "payer_total": 10000, "currency": "CNY"},
    }
    return signer.notification("TRANSACTION.SUCCESS", content, platform=platform)


@pytest.mark.parametrize("name", SIGNERS)
def test_during_the_change_every_key_proves_notifications_and_answers(
    tmp_path: Path, signers: dict[str, TinyWeChat], name: str
) -> None:
    settings = _settings(tmp_path, signers, during_the_change=True)
    headers, raw = _notification(signers[name], platform=name == "platform")
    assert _verifier(settings).verify(headers, raw).out_trade_no == TRADE
    wechat_core(settings).keys.verify(headers, raw)
    forged = {
        **headers,
        "Wechatpay-Signature": _notification(signers[name], platform=False)[0]["Wechatpay-Nonce"],
    }
    with pytest.raises(NotificationRefusedError):
        _verifier(settings).verify(forged, raw)


@pytest.mark.parametrize("name", ["second", "platform"])
def test_without_the_change_in_the_settings_other_keys_are_refused(
    tmp_path: Path, signers: dict[str, TinyWeChat], name: str
) -> None:
    settings = _settings(tmp_path, signers, during_the_change=False)
    headers, raw = _notification(signers[name], platform=name == "platform")
    with pytest.raises(NotificationRefusedError):
        _verifier(settings).verify(headers, raw)
    with pytest.raises(UnknownSerialError):
        wechat_core(settings).keys.verify(headers, raw)


def test_requests_ask_for_the_first_key(tmp_path: Path, signers: dict[str, TinyWeChat]) -> None:
    core = wechat_core(_settings(tmp_path, signers, during_the_change=True))
    prepared = core._prepared("https://wechat.example", "GET", "/v3/x", b"")
    assert prepared.headers["Wechatpay-Serial"] == signers["first"].keys.wechat_public_key_id
