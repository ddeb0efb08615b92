"""A minimal merchant for the tests: signs requests, checks answers, opens notifications; independent of any client."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from sandbox.wechat.calls import Reply
from sandbox.wechat.keys import KeyMaterial

Json = dict[str, Any]
Send = Callable[[str, str, dict[str, str], bytes], Reply]
NOTIFY_URL = "https://jiazhu.example/api/notifications/wechat"
PAY = "/v3/pay/transactions"
REFUNDS = "/v3/refund/domestic/refunds"


class Keys:
    """Key objects of a material, parsed once."""

    def __init__(self, material: KeyMaterial) -> None:
        private = load_pem_private_key(material.merchant_private_pem.encode(), None)
        wechat = load_pem_public_key(material.wechat_public_pem.encode())
        platform = x509.load_pem_x509_certificate(material.platform_certificate_pem.encode()).public_key()
        assert isinstance(private, rsa.RSAPrivateKey)
        assert isinstance(wechat, rsa.RSAPublicKey)
        assert isinstance(platform, rsa.RSAPublicKey)
        self.material = material
        self.private = private
        self.publics = {material.wechat_public_key_id: wechat, material.platform_serial: platform}

    def sign(self, message: str) -> str:
        return base64.b64encode(
            self.private.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256())
        ).decode()

    def genuine(self, headers: dict[str, str], body: bytes) -> bool:
        """Whether an answer or a notification carries a good signature of WeChat."""
        names = {name.lower(): value for name, value in headers.items()}
        if "wechatpay-signature" not in names:
            return False
        message = f"{names['wechatpay-timestamp']}\n{names['wechatpay-nonce']}\n".encode() + body + b"\n"
        try:
            self.publics[names["wechatpay-serial"]].verify(
                base64.b64decode(names["wechatpay-signature"]), message, padding.PKCS1v15(), hashes.SHA256()
            )
        except (InvalidSignature, KeyError, ValueError):
            return False
        return True

    def open(self, body: bytes) -> Json:
        """Decrypt the content of a notification."""
        resource = json.loads(body)["resource"]
        plain = AESGCM(self.material.apiv3_key.encode()).decrypt(
            resource["nonce"].encode(),
            base64.b64decode(resource["ciphertext"]),
            resource["associated_data"].encode(),
        )
        opened: Json = json.loads(plain)
        return opened


@dataclass(kw_only=True)
class Merchant:
    """Sends signed calls through `send`; `now_s` is the time it signs with."""

    keys: Keys
    send: Send
    now_s: Callable[[], int]
    overrides: dict[str, str] = field(default_factory=dict)

    def call(
        self, method: str, path: str, body: Json | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        raw = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        return self.raw_call(method, path, raw, headers)

    def raw_call(
        self,
        method: str,
        path: str,
        raw: bytes,
        headers: dict[str, str] | None = None,
        sent: bytes | None = None,
    ) -> Reply:
        material = self.keys.material
        fields = {
            "mchid": material.mchid,
            "nonce_str": "0123456789abcdef0123456789abcdef",
            "timestamp": str(self.now_s()),
            "serial_no": material.merchant_serial,
        } | self.overrides
        message = f"{method}\n{path}\n{fields['timestamp']}\n{fields['nonce_str']}\n{raw.decode()}\n"
        fields.setdefault("signature", self.keys.sign(message))
        token = ",".join(f'{name}="{value}"' for name, value in fields.items())
        sending = {
            "Authorization": f"WECHATPAY2-SHA256-RSA2048 {token}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "jiazhu-tests",
            "Wechatpay-Serial": material.wechat_public_key_id,
        }
        return self.send(method, path, sending | (headers or {}), raw if sent is None else sent)

    def body(self, otn: str, total: int = 10_000, **more: Any) -> Json:
        material = self.keys.material
        return {
            "appid": material.appid,
            "mchid": material.mchid,
            "description": "92号汽油",
            "out_trade_no": otn,
            "notify_url": NOTIFY_URL,
            "amount": {"total": total, "currency": "CNY"},
            **more,
        }

    def jsapi(self, otn: str, openid: str = "oDriver1", total: int = 10_000, **more: Any) -> Reply:
        return self.call("POST", f"{PAY}/jsapi", self.body(otn, total, payer={"openid": openid}, **more))

    def native(self, otn: str, total: int = 10_000, **more: Any) -> Reply:
        return self.call("POST", f"{PAY}/native", self.body(otn, total, **more))

    def code_body(self, otn: str, code: str, total: int = 10_000) -> Json:
        body = self.body(otn, total, payer={"auth_code": code}, scene_info={"store_info": {"id": "S001"}})
        del body["notify_url"]
        return body

    def codepay(
        self, otn: str, last4: str = "0000", total: int = 10_000, headers: dict[str, str] | None = None
    ) -> Reply:
        serial = sum(ord(letter) * 131**place for place, letter in enumerate(otn)) % 10**12
        return self.call(
            "POST", f"{PAY}/codepay", self.code_body(otn, f"13{serial:012d}{last4}", total), headers
        )

    def query(self, otn: str) -> Reply:
        return self.call("GET", f"{PAY}/out-trade-no/{otn}?mchid={self.keys.material.mchid}")

    def state(self, otn: str) -> str:
        """`trade_state` of the query, or the error code."""
        found = json.loads(self.query(otn).body)
        return str(found.get("trade_state") or found["code"])

    def close(self, otn: str) -> Reply:
        return self.call("POST", f"{PAY}/out-trade-no/{otn}/close", {"mchid": self.keys.material.mchid})

    def reverse(self, otn: str) -> Reply:
        material = self.keys.material
        body = {"appid": material.appid, "mchid": material.mchid}
        return self.call("POST", f"{PAY}/out-trade-no/{otn}/reverse", body)

    def refund(self, otn: str, no: str, fen: int, total: int = 10_000, **more: Any) -> Reply:
        body = {
            "out_trade_no": otn,
            "out_refund_no": no,
            "notify_url": NOTIFY_URL,
            "amount": {"refund": fen, "total": total, "currency": "CNY"},
            **more,
        }
        return self.call("POST", REFUNDS, body)

    def query_refund(self, no: str) -> Json:
        found: Json = json.loads(self.call("GET", f"{REFUNDS}/{no}").body)
        return found

    def pay_form(self, prepay_id: str) -> dict[str, str]:
        """The five parameters of `wx.requestPayment`."""
        stamp, nonce, package = str(self.now_s()), "abcdefgh", f"prepay_id={prepay_id}"
        message = f"{self.keys.material.appid}\n{stamp}\n{nonce}\n{package}\n"
        return {
            "timeStamp": stamp,
            "nonceStr": nonce,
            "package": package,
            "signType": "RSA",
            "paySign": self.keys.sign(message),
        }


class Receiver:
    """The merchant's notification address: keeps what arrives, answers what it is told (200 at the end)."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []

    def __call__(self, url: str, headers: dict[str, str], body: bytes) -> int:
        assert url == NOTIFY_URL
        self.got.append((headers, body))
        if self.answers:
            return self.answers.pop(0)
        return 200 if self._keys.genuine(headers, body) else 401

    @property
    def genuine(self) -> list[bool]:
        return [self._keys.genuine(headers, body) for headers, body in self.got]

    @property
    def events(self) -> list[str]:
        return [json.loads(body)["event_type"] for _, body in self.got]

    def opened(self, position: int = -1) -> Json:
        return self._keys.open(self.got[position][1])


def code(reply: Reply) -> str:
    """The error code of an answer."""
    return str(json.loads(reply.body)["code"])


def errno(reply: Reply) -> int:
    """The number at the end of Request-ID."""
    return int(reply.headers["Request-ID"].rpartition("-")[2])
