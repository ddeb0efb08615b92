"""A tiny WeChat of the tests' own: signs answers and notifications, keeps what it was sent. Own signing code."""

import json
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import responses
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from requests import PreparedRequest

from adapters.payments.wechat.core import HardenedCore
from sandbox.wechat.keys import KeyMaterial, generate

NOW = 1_700_000_000
Answer = tuple[int, dict[str, str], bytes]


@cache
def material() -> KeyMaterial:
    """Draw the keys once a session."""
    return generate()


@cache
def rsa_key(pem: str) -> rsa.RSAPrivateKey:
    """Parse a PEM once."""
    key = load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


@dataclass
class Ticker:
    """A clock that the test moves."""

    now: int

    def __call__(self) -> int:
        return self.now


@dataclass
class TinyWeChat:
    """Answers in the order given; each answer is a tuple, an exception, or a function of the request."""

    clock: Ticker
    keys: KeyMaterial = field(default_factory=material)
    answers: list[Answer | Exception | Callable[[PreparedRequest], Answer]] = field(default_factory=list)
    seen: list[PreparedRequest] = field(default_factory=list)

    def install(self, rsps: responses.RequestsMock, url: str = r"https?://.*") -> None:
        for method in ("GET", "POST"):
            rsps.add_callback(method, re.compile(url), callback=self._answer, content_type=None)

    def _answer(self, request: PreparedRequest) -> Any:
        self.seen.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    def headers(self, body: bytes, *, platform: bool = False, at: int | None = None) -> dict[str, str]:
        keys = self.keys
        pem, serial = (
            (keys.platform_private_pem, keys.platform_serial)
            if platform
            else (keys.wechat_private_pem, keys.wechat_public_key_id)
        )
        stamp, nonce = str(self.clock.now if at is None else at), secrets.token_hex(8)
        text = stamp.encode() + b"\n" + nonce.encode() + b"\n" + body + b"\n"
        signature = rsa_key(pem).sign(text, padding.PKCS1v15(), SHA256())
        return {
            "Wechatpay-Timestamp": stamp,
            "Wechatpay-Nonce": nonce,
            "Wechatpay-Serial": serial,
            "Wechatpay-Signature": b64encode(signature).decode(),
            "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
        }

    def signed(
        self, status: int, payload: object = None, *, errno: int = 0, platform: bool = False
    ) -> Answer:
        body = b"" if payload is None else json.dumps(payload, ensure_ascii=False).encode()
        return status, {**self.headers(body, platform=platform), "Request-ID": f"REQ1-{errno}"}, body

    def error(self, status: int, code: str, *, errno: int = 0) -> Answer:
        return self.signed(status, {"code": code, "message": "说明"}, errno=errno)

    def sealed(self, plaintext: bytes, associated: str, key: str = "") -> dict[str, str]:
        nonce = secrets.token_hex(6)
        cipher = AESGCM((key or self.keys.apiv3_key).encode())
        data = cipher.encrypt(nonce.encode(), plaintext, associated.encode())
        return {
            "algorithm": "AEAD_AES_256_GCM",
            "nonce": nonce,
            "associated_data": associated,
            "ciphertext": b64encode(data).decode(),
        }

    def certificate_list(self) -> Answer:
        pem = self.keys.platform_certificate_pem.encode()
        item = {
            "serial_no": self.keys.platform_serial,
            "encrypt_certificate": self.sealed(pem, "certificate"),
        }
        return self.signed(200, {"data": [item]}, platform=True)

    def notification(
        self, event_type: str, content: dict[str, Any], *, platform: bool = False, apiv3_key: str = ""
    ) -> tuple[dict[str, str], bytes]:
        kind = "refund" if event_type.startswith("REFUND") else "transaction"
        resource = self.sealed(json.dumps(content).encode(), kind, apiv3_key)
        envelope = {
            "id": "EV-1",
            "event_type": event_type,
            "resource_type": "encrypt-resource",
            "summary": "支付成功",
            "resource": {"original_type": kind, **resource},
        }
        raw = json.dumps(envelope, ensure_ascii=False).encode()
        return self.headers(raw, platform=platform), raw

    def check_merchant_signature(self, request: PreparedRequest) -> dict[str, str]:
        """Verify what the merchant signed against what it sent; raises InvalidSignature."""
        found = dict(re.findall(r'(\w+)="([^"]*)"', str(request.headers["Authorization"])))
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        head = f"{request.method}\n{request.path_url}\n{found['timestamp']}\n{found['nonce_str']}\n".encode()
        public = rsa_key(self.keys.merchant_private_pem).public_key()
        public.verify(b64decode(found["signature"]), head + body + b"\n", padding.PKCS1v15(), SHA256())
        return found

    def core(self, **changes: Any) -> HardenedCore:
        """A transport in public-key mode; `changes` override constructor arguments."""
        keys = self.keys
        arguments: dict[str, Any] = {
            "mchid": keys.mchid,
            "serial_no": keys.merchant_serial,
            "private_key_pem": keys.merchant_private_pem,
            "apiv3_key": keys.apiv3_key,
            "public_key_pem": keys.wechat_public_pem,
            "public_key_id": keys.wechat_public_key_id,
            "clock": self.clock,
        }
        return HardenedCore(**{**arguments, **changes})

    def certificate_core(self, **changes: Any) -> HardenedCore:
        """A transport in platform-certificate mode."""
        return self.core(public_key_pem=None, public_key_id="", **changes)
