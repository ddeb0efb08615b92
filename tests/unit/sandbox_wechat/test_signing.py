"""Signatures and encryption, with the published AES-GCM vector and the negatives a client must meet."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from sandbox.wechat import keys as keyfile
from sandbox.wechat.keys import KeyMaterial
from sandbox.wechat.signing import aes_gcm_decrypt, aes_gcm_encrypt
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.merchant import PAY, Keys, Merchant, code, errno

# AES-256-GCM vector of WeChat's own Java library (AeadAesCipherTest, published test key).
VECTOR_KEY = b"a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb"
VECTOR_NONCE = "uluk4a9R25RW"
VECTOR_SEALED = "ulwSiIajGClcvcOYvOQ7+l+0PAbzzwI="


def test_published_aes_gcm_vector() -> None:
    assert aes_gcm_encrypt(VECTOR_KEY, VECTOR_NONCE, "associatedData", b"message") == VECTOR_SEALED
    assert aes_gcm_decrypt(VECTOR_KEY, VECTOR_NONCE, "associatedData", VECTOR_SEALED) == b"message"


@pytest.mark.parametrize(
    ("nonce", "associated", "sealed"),
    [
        (VECTOR_NONCE, "bad-associatedData", VECTOR_SEALED),
        ("bad-4a9R25RW", "associatedData", VECTOR_SEALED),
        (VECTOR_NONCE, "associatedData", base64.b64encode(bytes(128)).decode()),
    ],
)
def test_published_aes_gcm_negatives(nonce: str, associated: str, sealed: str) -> None:
    with pytest.raises(InvalidTag):
        aes_gcm_decrypt(VECTOR_KEY, nonce, associated, sealed)


def test_answer_is_signed_with_the_public_key_asked_for(merchant: Merchant, keys: Keys) -> None:
    reply = merchant.jsapi("SIGN000001")
    assert reply.status == 200
    assert reply.headers["Wechatpay-Serial"] == keys.material.wechat_public_key_id
    assert keys.genuine(reply.headers, reply.body)
    assert not keys.genuine(reply.headers, reply.body + b" ")


def test_answer_without_asked_serial_uses_the_platform_certificate(merchant: Merchant, keys: Keys) -> None:
    reply = merchant.call("GET", "/v3/certificates", headers={"Wechatpay-Serial": ""})
    assert reply.headers["Wechatpay-Serial"] == keys.material.platform_serial
    assert keys.genuine(reply.headers, reply.body)


def test_no_content_is_signed_over_an_empty_body(merchant: Merchant, keys: Keys) -> None:
    merchant.jsapi("SIGN000002")
    reply = merchant.close("SIGN000002")
    assert (reply.status, reply.body) == (204, b"")
    assert keys.genuine(reply.headers, b"")


def test_certificates_hold_the_platform_certificate(merchant: Merchant, keys: Keys) -> None:
    entry = json.loads(merchant.call("GET", "/v3/certificates").body)["data"][0]
    sealed = entry["encrypt_certificate"]
    plain = aes_gcm_decrypt(
        keys.material.apiv3_key.encode(), sealed["nonce"], sealed["associated_data"], sealed["ciphertext"]
    )
    assert plain.decode() == keys.material.platform_certificate_pem
    assert entry["serial_no"] == keys.material.platform_serial


@pytest.mark.parametrize(
    "wrong",
    [
        {"serial_no": "00" * 20},
        {"mchid": "1999999999"},
        {"signature": "AAAA"},
        {"signature": "not base64!"},
        {"timestamp": "tomorrow"},
    ],
)
def test_bad_authorization_is_401_and_unsigned(merchant: Merchant, keys: Keys, wrong: dict[str, str]) -> None:
    merchant.overrides = wrong
    reply = merchant.query("SIGN000003")
    assert (reply.status, code(reply)) == (401, "SIGN_ERROR")
    assert "Wechatpay-Signature" not in reply.headers


@pytest.mark.parametrize(("skew_s", "status"), [(-300, 404), (300, 404), (-301, 401), (301, 401)])
def test_clock_skew_of_five_minutes(merchant: Merchant, world: World, skew_s: int, status: int) -> None:
    merchant.now_s = lambda: world.signature_s() + skew_s
    assert merchant.query("SIGN000004").status == status


@pytest.mark.parametrize("header", ["", "Bearer abc", 'WECHATPAY2-SHA256-RSA2048 mchid="1"'])
def test_broken_authorization_header(merchant: Merchant, header: str) -> None:
    reply = merchant.call("GET", "/v3/certificates", headers={"Authorization": header})
    assert (reply.status, code(reply)) == (401, "SIGN_ERROR")


def test_tampered_body_and_tampered_path(merchant: Merchant, world: World) -> None:
    body = merchant.body("SIGN000005", payer={"openid": "oDriver1"})
    raw = json.dumps(body).encode()
    reply = merchant.raw_call("POST", f"{PAY}/jsapi", raw, sent=raw.replace(b"10000", b"1"))
    assert reply.status == 401
    assert world.order("SIGN000005") is None


def test_unknown_wechatpay_serial_is_a_parameter_error(merchant: Merchant) -> None:
    reply = merchant.call("GET", "/v3/certificates", headers={"Wechatpay-Serial": "PUB_KEY_ID_0"})
    assert (reply.status, code(reply)) == (400, "PARAM_ERROR")


def test_body_of_another_merchant_or_app(merchant: Merchant) -> None:
    other = merchant.body("SIGN000006", payer={"openid": "o1"}) | {"mchid": "1999999999"}
    reply = merchant.call("POST", f"{PAY}/jsapi", other)
    assert (reply.status, code(reply)) == (400, "PARAM_ERROR")
    other = merchant.body("SIGN000006", payer={"openid": "o1"}) | {"appid": "wx0000000000000000"}
    reply = merchant.call("POST", f"{PAY}/jsapi", other)
    assert (code(reply), errno(reply)) == ("APPID_MCHID_NOT_MATCH", 268445527)
    reply = merchant.call("GET", f"{PAY}/out-trade-no/SIGN000006?mchid=1999999999")
    assert (reply.status, code(reply)) == (400, "PARAM_ERROR")


def test_unknown_route_is_404(merchant: Merchant) -> None:
    assert merchant.call("GET", "/v3/nothing").status == 404
    assert merchant.call("DELETE", f"{PAY}/jsapi").status == 404


def test_key_material_survives_the_folder(material: KeyMaterial, tmp_path: Path) -> None:
    keyfile.save(material, tmp_path)
    assert keyfile.load_or_create(tmp_path) == material
    assert (tmp_path / "apiclient_key.pem").stat().st_mode & 0o077 == 0
    assert len(material.apiv3_key) == 32
    assert material.wechat_public_key_id.startswith("PUB_KEY_ID_")


def test_signature_is_pkcs1_sha256(merchant: Merchant, keys: Keys) -> None:
    reply = merchant.jsapi("SIGN000007")
    names = reply.headers
    message = f"{names['Wechatpay-Timestamp']}\n{names['Wechatpay-Nonce']}\n".encode() + reply.body + b"\n"
    public = keys.publics[names["Wechatpay-Serial"]]
    public.verify(
        base64.b64decode(names["Wechatpay-Signature"]), message, padding.PKCS1v15(), hashes.SHA256()
    )
    assert names["Wechatpay-Signature-Type"] == "WECHATPAY2-SHA256-RSA2048"
