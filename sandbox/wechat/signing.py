"""Signatures and encryption of WeChat Pay v3, written here on purpose and not shared with the product's
client.

Request:  METHOD\\nPATH?QUERY\\nTIMESTAMP\\nNONCE\\nBODY\\n      answer and notification:
TIMESTAMP\\nNONCE\\nBODY\\n
RSA-2048, SHA-256, PKCS#1 v1.5, base64. Notification contents: AES-256-GCM with the APIv3 key.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from sandbox.wechat.keys import KeyMaterial
from sandbox.wechat.states import ApiError
from sandbox.wechat.text import token

SCHEME = "WECHATPAY2-SHA256-RSA2048"
MAX_SKEW_S = 300
PROBE_SIGNATURE = "WECHATPAY/SIGNTEST/"

_FIELD = re.compile(r'(\w+)="([^"]*)"')
_PKCS1 = padding.PKCS1v15()
_SHA256 = hashes.SHA256()


def aes_gcm_encrypt(key: bytes, nonce: str, associated_data: str, plaintext: bytes) -> str:
    """base64(ciphertext || 16-byte tag)."""
    sealed = AESGCM(key).encrypt(nonce.encode(), plaintext, associated_data.encode())
    return base64.b64encode(sealed).decode()


def aes_gcm_decrypt(key: bytes, nonce: str, associated_data: str, ciphertext: str) -> bytes:
    """Inverse of `aes_gcm_encrypt`; raises cryptography.exceptions.InvalidTag when anything was changed."""
    return AESGCM(key).decrypt(nonce.encode(), base64.b64decode(ciphertext), associated_data.encode())


def sign(key: rsa.RSAPrivateKey, message: bytes) -> str:
    """RSA-SHA256 signature as base64."""
    return base64.b64encode(key.sign(message, _PKCS1, _SHA256)).decode()


def verify(key: rsa.RSAPublicKey, message: bytes, signature: str) -> bool:
    """Whether a base64 signature belongs to the message and the key."""
    try:
        key.verify(base64.b64decode(signature, validate=True), message, _PKCS1, _SHA256)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def request_message(method: str, path_qs: str, timestamp: str, nonce: str, body: bytes) -> bytes:
    """The text a merchant signs."""
    return f"{method}\n{path_qs}\n{timestamp}\n{nonce}\n".encode() + body + b"\n"


def response_message(timestamp: str, nonce: str, body: bytes) -> bytes:
    """The text WeChat signs, in answers and in notifications."""
    return f"{timestamp}\n{nonce}\n".encode() + body + b"\n"


def pay_sign_message(appid: str, timestamp: str, nonce: str, package: str) -> bytes:
    """The text behind `paySign` of a mini-program payment."""
    return f"{appid}\n{timestamp}\n{nonce}\n{package}\n".encode()


def _private(pem: str) -> rsa.RSAPrivateKey:
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("an RSA key is needed")
    return key


def _public(pem: str) -> rsa.RSAPublicKey:
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, rsa.RSAPublicKey):
        raise TypeError("an RSA key is needed")
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One key WeChat signs with, and the serial it announces."""

    serial: str
    private: rsa.RSAPrivateKey


class Keyring:
    """Key objects parsed once: parsing a PEM costs as much as a signature."""

    def __init__(self, material: KeyMaterial) -> None:
        self.material = material
        self.merchant_public = _private(material.merchant_private_pem).public_key()
        self.wechat = SigningKey(
            serial=material.wechat_public_key_id, private=_private(material.wechat_private_pem)
        )
        self.platform = SigningKey(
            serial=material.platform_serial, private=_private(material.platform_private_pem)
        )
        self.apiv3_key = material.apiv3_key.encode()
        self.platform_certificate = x509.load_pem_x509_certificate(material.platform_certificate_pem.encode())
        self.wechat_public = _public(material.wechat_public_pem)

    def answering(self, asked_serial: str) -> SigningKey:
        """The key for an answer: the one asked for by `Wechatpay-Serial`, else the platform certificate.

        Raises ApiError PARAM_ERROR for a serial that is neither.
        """
        if asked_serial in ("", self.platform.serial):
            return self.platform
        if asked_serial == self.wechat.serial:
            return self.wechat
        raise ApiError("PARAM_ERROR", "Wechatpay-Serial 对应的平台证书或公钥不存在")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The parsed `Authorization` header of a merchant."""

    mchid: str
    nonce: str
    signature: str
    timestamp: str
    serial: str


def parse_authorization(header: str) -> Authorization:
    """Parse `WECHATPAY2-SHA256-RSA2048 mchid="…",…`; raises ApiError SIGN_ERROR."""
    scheme, _, rest = header.partition(" ")
    found = dict(_FIELD.findall(rest))
    if scheme != SCHEME:
        raise ApiError("SIGN_ERROR", "Http头Authorization认证类型不正确")
    try:
        return Authorization(
            mchid=found["mchid"],
            nonce=found["nonce_str"],
            signature=found["signature"],
            timestamp=found["timestamp"],
            serial=found["serial_no"],
        )
    except KeyError as missing:
        raise ApiError("SIGN_ERROR", f"Http头Authorization缺少 {missing.args[0]}") from missing


def check_request(
    ring: Keyring, auth: Authorization, method: str, path_qs: str, body: bytes, now_s: int
) -> None:
    """Verify serial, clock and signature of a merchant's request; raises ApiError SIGN_ERROR."""
    if auth.serial.upper() != ring.material.merchant_serial:
        raise ApiError("SIGN_ERROR", "商户证书序列号有误")
    if not auth.timestamp.isdigit() or abs(now_s - int(auth.timestamp)) > MAX_SKEW_S:
        raise ApiError("SIGN_ERROR", "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟")
    message = request_message(method, path_qs, auth.timestamp, auth.nonce, body)
    if not verify(ring.merchant_public, message, auth.signature):
        detail = {"field": "signature", "issue": "sign not match", "location": "authorization"}
        raise ApiError("SIGN_ERROR", "签名错误，请检查后再试", detail=detail)


def signed_headers(key: SigningKey, now_s: int, body: bytes) -> dict[str, str]:
    """The `Wechatpay-*` headers of an answer or a notification."""
    timestamp, nonce = str(now_s), token(32)
    return {
        "Wechatpay-Timestamp": timestamp,
        "Wechatpay-Nonce": nonce,
        "Wechatpay-Signature": sign(key.private, response_message(timestamp, nonce, body)),
        "Wechatpay-Serial": key.serial,
        "Wechatpay-Signature-Type": SCHEME,
    }


def broken(headers: dict[str, str]) -> dict[str, str]:
    """The same headers with a well-formed signature that verifies nothing."""
    raw = bytearray(base64.b64decode(headers["Wechatpay-Signature"]))
    raw[-1] ^= 0x01
    return {**headers, "Wechatpay-Signature": base64.b64encode(bytes(raw)).decode()}
